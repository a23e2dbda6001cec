import CSupport
import Glibc
import Synchronization

/// What the victim writes down of its posts, in memory that survives it.
@safe
final class Journal: @unchecked Sendable {  // a mapping of fixed size, and atomics in it
  enum Word: Int {
    /// How many messages the victim had begun to post, and how many of those posts had returned.
    case attempted, posted
    /// The number of the port that the victim moves while a thread posts to it, and how many of those posts had
    /// returned.
    case partlyReceived, partsPosted
    /// How many elements of the last stream were sent, and which stream that is: see ``Questions``.
    case elementsSent
  }

  let descriptor: CInt
  private let base: UnsafeMutableRawPointer
  private static let byteCount = 4096

  private init(owning descriptor: CInt) {
    var address: UnsafeMutableRawPointer?
    let result = unsafe descriptor < 0 ? descriptor : csupport_memory_map(descriptor, 0, Self.byteCount, &address)
    guard result >= 0, let address = unsafe address else { fatalError("no journal: error \(-result)") }
    self.descriptor = descriptor
    unsafe base = unsafe address
  }

  deinit {
    _ = unsafe csupport_memory_unmap(base, Self.byteCount)
    _ = csupport_close(descriptor)
  }

  /// Makes one.
  convenience init() { self.init(owning: csupport_memory_create_sealed(UInt64(Self.byteCount))) }

  /// Opens the one that another process has made.
  convenience init(path: String) { self.init(owning: unsafe open(path, O_RDWR | O_CLOEXEC)) }

  var path: String { "/proc/\(getpid())/fd/\(descriptor)" }

  subscript(_ word: Word) -> Int {
    get { unsafe pointer(word).pointee.load(ordering: .acquiring) }
    set { unsafe pointer(word).pointee.store(newValue, ordering: .releasing) }
  }

  private func pointer(_ word: Word) -> UnsafeMutablePointer<Atomic<Int>> {
    unsafe (base + word.rawValue * 8).assumingMemoryBound(to: Atomic<Int>.self)
  }
}
