import CSupport
import Glibc
import Synchronization

/// What all processes of a torture share beside the ports: the journal of what was posted and received, so that it is
/// known after a kill what must at least have arrived. Nothing here goes through the library that is being tortured.
///
/// Thread safety: all words are atomic; the text of a worker is written before its flag is set.
@safe
final class TortureTable: @unchecked Sendable {  // a mapping of fixed size, and atomics in it
  /// Of each port.
  enum PortWord: Int {
    /// How many posts were begun, and how many have returned.
    case attempted, posted
    /// How many of these the other end has received.
    case received
    /// See ``Holder``; 0: on its way.
    case holder
    /// The holder was told that the other end is gone.
    case hasSeenClose
    /// The holder takes whatever comes.
    case isReading
    /// Its owner closed it.
    case isClosed
    /// One more than the number of a message that the other end went past without receiving it; 0: none.
    /// See ``TortureStop/mayMissOne``.
    case missed
  }

  /// Of each worker.
  enum WorkerWord: Int {
    /// Which orders it has taken up.
    case orders
    /// How many stops it could get on with.
    case busy
    /// How many stops wait for ports that have to come.
    case awaited
    case messages, bytes, transfers
    /// Its text says what went wrong.
    case hasFailed
    /// Its resources are back where they were.
    case isClean
  }

  static let mostChannels: UInt32 = 1 << 18
  static let mostWorkers = 256
  private static let workerBytes = 4096
  private static let textOffset = 256
  private static let portBytes = 64
  private static let byteCount = mostWorkers * workerBytes + Int(mostChannels) * 2 * portBytes

  let descriptor: CInt
  private let base: UnsafeMutableRawPointer

  private init(owning descriptor: CInt) throws {
    guard descriptor >= 0 else { throw TortureError("cannot open the journal: error \(-descriptor)") }
    var address: UnsafeMutableRawPointer?
    let result = unsafe csupport_memory_map(descriptor, 0, Self.byteCount, &address)
    guard result >= 0, let address = unsafe address else {
      throw TortureError("cannot map the journal: error \(-result)")
    }
    self.descriptor = descriptor
    unsafe base = unsafe address
  }

  /// Makes an empty one.
  convenience init() throws { try self.init(owning: csupport_memory_create_sealed(UInt64(Self.byteCount))) }

  /// Opens the one that another process has made, at ``path`` there.
  convenience init(path: String) throws {
    let result = unsafe open(path, O_RDWR | O_CLOEXEC)
    try self.init(owning: result < 0 ? -errno : result)
  }

  deinit {
    _ = unsafe csupport_memory_unmap(base, Self.byteCount)
    _ = csupport_close(descriptor)
  }

  /// Where other processes find it.
  var path: String { "/proc/\(getpid())/fd/\(descriptor)" }

  // MARK: Ports

  subscript(_ port: PortID, _ word: PortWord) -> Int {
    get { unsafe Int(truncatingIfNeeded: pointer(port, word).pointee.load(ordering: .acquiring)) }
    set { unsafe pointer(port, word).pointee.store(UInt64(truncatingIfNeeded: newValue), ordering: .releasing) }
  }

  func clear(_ channel: UInt32) {
    for end in 0...1 {
      let port = PortID(channel: channel, end: end)
      for word in 0...PortWord.missed.rawValue { self[port, PortWord(rawValue: word)!] = 0 }
    }
  }

  /// Writes `new` if the word is still `old`, and returns whether it was: whoever gets true has done so alone.
  func exchange(_ port: PortID, _ word: PortWord, _ old: Int, for new: Int) -> Bool {
    unsafe pointer(port, word).pointee.compareExchange(
      expected: UInt64(truncatingIfNeeded: old), desired: UInt64(truncatingIfNeeded: new),
      ordering: .acquiringAndReleasing
    ).exchanged
  }

  private func pointer(_ port: PortID, _ word: PortWord) -> UnsafeMutablePointer<Atomic<UInt64>> {
    let offset = Self.mostWorkers * Self.workerBytes + Int(port.rawValue) * Self.portBytes + word.rawValue * 8
    return unsafe (base + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  // MARK: Workers

  subscript(_ worker: Int, _ word: WorkerWord) -> Int {
    get { unsafe Int(truncatingIfNeeded: pointer(worker, word).pointee.load(ordering: .acquiring)) }
    set { unsafe pointer(worker, word).pointee.store(UInt64(truncatingIfNeeded: newValue), ordering: .releasing) }
  }

  func add(_ count: Int, to word: WorkerWord, of worker: Int) {
    unsafe pointer(worker, word).pointee.wrappingAdd(
      UInt64(truncatingIfNeeded: count), ordering: .acquiringAndReleasing)
  }

  private func pointer(_ worker: Int, _ word: WorkerWord) -> UnsafeMutablePointer<Atomic<UInt64>> {
    unsafe (base + worker * Self.workerBytes + word.rawValue * 8).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  /// Says what went wrong. What was said first stays.
  func fail(_ worker: Int, _ text: String) {
    let claimed = unsafe pointer(worker, .hasFailed).pointee.compareExchange(
      expected: 0, desired: 1, ordering: .acquiringAndReleasing
    ).exchanged
    guard claimed else { return }
    let bytes = Array(text.utf8.prefix(Self.workerBytes - Self.textOffset - 8))
    let start = unsafe base + worker * Self.workerBytes + Self.textOffset
    unsafe start.storeBytes(of: UInt64(bytes.count), as: UInt64.self)
    unsafe (start + 8).copyMemory(from: bytes, byteCount: bytes.count)
    self[worker, .hasFailed] = 2
  }

  /// What the worker found wrong.
  func failure(of worker: Int) -> String? {
    guard self[worker, .hasFailed] == 2 else { return nil }
    let start = unsafe base + worker * Self.workerBytes + Self.textOffset
    let count = unsafe min(Int(start.load(as: UInt64.self)), Self.workerBytes - Self.textOffset - 8)
    return unsafe String(decoding: UnsafeRawBufferPointer(start: start + 8, count: count), as: UTF8.self)
  }
}
