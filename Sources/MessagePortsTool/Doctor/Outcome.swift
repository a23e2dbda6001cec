import CSupport

/// Whether a trial worked, or the `errno` with which it failed.
package struct Outcome: Hashable, Sendable, Codable, CustomStringConvertible {
  package var errno: CInt?

  package static let works = Outcome(errno: nil)
  package static func failed(_ errno: CInt) -> Outcome { Outcome(errno: errno) }

  /// From a result of the shim: `-errno`, or a value that says that it worked.
  package init(result: CInt) { errno = result < 0 ? -result : nil }
  private init(errno: CInt?) { self.errno = errno }

  package var worked: Bool { errno == nil }

  package var description: String {
    guard let errno else { return "works" }
    return unsafe String(cString: csupport_error_name(errno))
  }

  private enum Key: CodingKey { case works, errno, error }

  package init(from decoder: any Decoder) throws {
    errno = try decoder.container(keyedBy: Key.self).decodeIfPresent(CInt.self, forKey: .errno)
  }

  /// Names the error beside its number, which differs between machines.
  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(worked, forKey: .works)
    guard let errno else { return }
    try container.encode(errno, forKey: .errno)
    try container.encode(description, forKey: .error)
  }
}
