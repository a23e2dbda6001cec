import CSupport

/// Descriptors that came with a packet, until each has an owner. Closes what is left, elsewhere: they may be anything, and
/// take as long to close as their sender likes.
struct ReceivedDescriptors: ~Copyable {
  private var storage: [CInt]
  private var next = 0
  private var count = 0

  init(capacity: Int) { storage = [CInt](repeating: -1, count: capacity) }

  deinit { for fd in storage[next..<count] { csupport_close_elsewhere(fd) } }

  /// Closes those that nobody has taken.
  mutating func closeAll() {
    for fd in storage[next..<count] { csupport_close_elsewhere(fd) }
    next = count
  }

  mutating func withStorage<Result>(_ body: (UnsafeMutableBufferPointer<CInt>) -> Result) -> Result {
    unsafe storage.withUnsafeMutableBufferPointer { unsafe body($0) }
  }

  /// So many are in the storage now; there were none left before.
  mutating func arrived(_ count: Int) {
    next = 0
    self.count = count
  }

  var isEmpty: Bool { next == count }

  /// Nothing more would have fitted.
  var isFull: Bool { count == storage.count }

  /// How many nobody has taken.
  var left: Int { count - next }

  /// Hands the next one to a new owner.
  mutating func take() -> CInt? {
    guard next < count else { return nil }
    defer { next += 1 }
    return storage[next]
  }
}
