import CSupport
import Foundation
import MessagePorts

/// A process of a demo, whoever started it. A later process with its number is not mistaken for it.
final class DemoProcess: Sendable {
  let name: String
  let identifier: Int32
  private let descriptor: CInt

  /// `nil` if it has ended already.
  init?(name: String, identifier: Int32) {
    self.name = name
    self.identifier = identifier
    descriptor = csupport_pidfd_open(identifier)
    if descriptor < 0 { return nil }
  }

  deinit { _ = csupport_close(descriptor) }

  /// True even before its parent reaps it.
  var hasEnded: Bool {
    var event = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return unsafe poll(&event, 1, 0) == 1
  }

  func kill() { _ = csupport_pidfd_signal(descriptor, SIGKILL) }

  /// One letter, as in `ps`: R runs, S sleeps, T is stopped, Z has ended.
  var state: Character? {
    // The name in parentheses may contain some: look behind the last one.
    let line = try? String(contentsOfFile: "/proc/\(identifier)/stat", encoding: .utf8)
    return line?.split(separator: ")").last?.dropFirst().first
  }
}
