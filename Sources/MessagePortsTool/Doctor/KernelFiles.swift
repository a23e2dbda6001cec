import CSupport
import Glibc

/// What the kernel says in `/proc` and `/sys`; `nil` for a file that is missing or says something else.
package struct KernelFiles: Sendable {
  /// The text of a file; replaced in tests.
  package var text: @Sendable (String) -> String?

  package init(text: @escaping @Sendable (String) -> String?) { self.text = text }

  /// Reads to the end: these files have no size, and come in pieces of a page or less.
  static let real = KernelFiles { path in
    let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return nil }
    defer { _ = csupport_close(fd) }
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = unsafe read(fd, &buffer, buffer.count)
      guard count > 0 else { return count == 0 ? String(decoding: text, as: UTF8.self) : nil }
      text += buffer[..<count]
    }
  }

  /// The words of a file that consists of one line.
  func words(_ path: String) -> [Substring] { text(path)?.split(whereSeparator: \.isWhitespace) ?? [] }

  func number<Number: FixedWidthInteger>(_ path: String) -> Number? { words(path).first.flatMap { Number($0) } }

  /// A setting by the name that `sysctl` has for it.
  func setting<Number: FixedWidthInteger>(_ name: String) -> Number? {
    number("/proc/sys/" + name.split(separator: ".").joined(separator: "/"))
  }

  /// A field of `/proc/self/status`.
  func status(_ field: String) -> Int? {
    let lines = text("/proc/self/status")?.split(separator: "\n") ?? []
    guard let line = lines.first(where: { $0.hasPrefix(field + ":") }) else { return nil }
    return Int(line.dropFirst(field.count + 1).filter { !$0.isWhitespace })
  }

  func lineCount(_ path: String) -> UInt64? { text(path).map { UInt64($0.count { $0 == "\n" }) } }
}
