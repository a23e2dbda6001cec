import CSupport
import Glibc
import SharedRing

/// What the environment says about how to work; read once.
enum Environment {
  /// `MESSAGEPORTS_BACKING`: where channels' memory comes from unless their options say so.
  static let backing: MemoryBacking = {
    guard let name = value("MESSAGEPORTS_BACKING") else { return .memfd }
    guard let backing = MemoryBacking(rawValue: name) else {
      Log.logger.warning("MESSAGEPORTS_BACKING=\(name) is neither memfd nor posixSharedMemory; using memfd")
      return .memfd
    }
    return backing
  }()

  /// `MESSAGEPORTS_DRIVER`: what event loops sleep on; `nil`: what the probe finds best.
  static let driver: EventLoop.Driver? = {
    guard let name = value("MESSAGEPORTS_DRIVER") else { return nil }
    guard let driver = EventLoop.Driver(rawValue: name) else {
      Log.logger.warning("MESSAGEPORTS_DRIVER=\(name) is neither uring nor epoll; probing")
      return nil
    }
    return driver
  }()

  /// A variable's value as text; what is not UTF-8 is repaired.
  static func value(_ name: String) -> String? { bytes(name).map { String(decoding: $0, as: UTF8.self) } }

  /// A variable's value as it is.
  static func bytes(_ name: String) -> [UInt8]? { unsafe getenv(name).map { unsafe copy($0) } }

  /// Everything that a new process inherits, as it is: `NAME=value`, usually.
  static var entries: [[UInt8]] {
    var entries: [[UInt8]] = []
    guard var next = unsafe csupport_environment() else { return [] }
    while let entry = unsafe next.pointee {
      unsafe entries.append(copy(entry))
      unsafe next += 1
    }
    return entries
  }

  private static func copy(_ text: UnsafePointer<CChar>) -> [UInt8] {
    unsafe Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
  }
}
