/// How much may be asked in one direction of a connection and not be answered yet. Part of the protocol: whoever asks waits
/// before it exceeds this, so whoever answers need not take more.
///
/// A request counts until its outcome has been posted, also after the asker has given it up: that is what bounds the work of
/// whoever answers, and not only the patience of whoever asks.
struct RequestWindow: Sendable {
  static let maximumCount = 1 << 16
  static let maximumBytes = 256 << 20

  private(set) var count = 0
  private var bytes = 0

  /// One request may be larger than all that may wait otherwise.
  func hasRoom(for byteCount: Int) -> Bool {
    count == 0 || count < Self.maximumCount && bytes <= Self.maximumBytes - min(byteCount, Self.maximumBytes)
  }

  mutating func enter(_ byteCount: Int) {
    count += 1
    bytes += byteCount
  }

  mutating func leave(_ byteCount: Int) {
    count -= 1
    bytes -= byteCount
  }
}
