/// Shared buffers that are lent, go to another process, come back, and are lent again. Fresh memory costs some microseconds a
/// page, which the system clears first; a buffer that has been here before costs nothing.
///
/// ```swift
/// func film(_ viewer: MessagePort, frames: AsyncStream<[UInt8]>) async throws {
///   let pool = try SharedBufferPool(byteCount: 1 << 20, capacity: 4)
///   viewer.onMessage = { event in for buffer in event.buffers { try? pool.giveBack(buffer) } }
///   for await frame in frames {
///     let buffer = try await pool.take()
///     try buffer.write(frame, at: 0)
///     try viewer.postMessage("frame", buffers: [.shared(buffer)])
///   }
/// }
///
/// func view(_ camera: MessagePort, show: @escaping @Sendable ([UInt8]) -> Void) {
///   camera.onMessage = { event in
///     guard case .shared(let buffer)? = event.buffers.first, let frame = try? buffer.read(0..<buffer.byteCount) else { return }
///     show(frame)
///     try? camera.postMessage("seen", buffers: [.shared(buffer)])
///   }
/// }
/// ```
///
/// A buffer is back when nobody in this process has it any more, in a copy or in a message, and the other process has given it back
/// as often as it was sent there: by posting it, or a copy of it, to whoever calls ``giveBack(_:)`` with what has come. That a process
/// has let go of one, or has ended, nobody tells. What is never given back is missing: no more than ``capacity`` are ever
/// made, so a process that keeps all of them leaves the pool with nothing to lend, and it has to be replaced by another.
///
/// What is *not* promised:
///
/// - That whoever had a buffer leaves it alone. It can keep it mapped and write it, or read what is written for somebody
///   else, as long as the memory exists. So one pool is for one other process, or for several that are meant to see, and may spoil,
///   what each of them gets. A process that gives a buffer back before it has read it sees what comes next.
/// - What a buffer contains when it is lent: anything.
/// - That it is ever frozen: the kernel freezes no memory that somebody can have mapped to write, and thaws none. So
///   ``FrozenBuffer``s do not come out of a pool, and do not go back into one. For content that stays the same, a frozen buffer
///   that is sent again and again costs no memory, either: see ``FrozenBuffer/copy()``.
///
/// Buffers that are lent do not depend on the pool: when it is closed or released, the memory of each is freed with its last holder.
///
/// Thread safety: any thread may use any member. In a process that was forked without an exec, a pool that existed before is closed.
public final class SharedBufferPool: Sendable {
  /// How large each buffer is.
  public let byteCount: Int
  /// How many buffers there are at most.
  public let capacity: Int
  private let core: BufferPoolCore

  /// Makes a pool that has no buffers yet: each is made, and its memory with it, when one is wanted and none is here.
  ///
  /// - Parameters:
  ///   - byteCount: of each buffer, at least 1.
  ///   - capacity: how many to make at most, at least 1. Each costs a descriptor and a mapping, as long as the pool is open.
  ///   - prefersHugePages: see ``SharedBuffer/init(byteCount:prefersHugePages:)``.
  /// - Throws: ``BufferError/invalidByteCount(_:)``, ``BufferError/invalidCapacity(_:)``.
  public init(byteCount: Int, capacity: Int, prefersHugePages: Bool = false) throws(BufferError) {
    guard byteCount > 0 else { throw .invalidByteCount(byteCount) }
    guard capacity > 0 else { throw .invalidCapacity(capacity) }
    self.byteCount = byteCount
    self.capacity = capacity
    core = BufferPoolCore(byteCount: byteCount, capacity: capacity, prefersHugePages: prefersHugePages)
  }

  deinit { core.close() }

  /// How many buffers are out: lent, sent, or never given back.
  public var lentCount: Int { core.lentCount }

  /// Lends a buffer if there is one. Never waits.
  ///
  /// - Returns: `nil` if all of ``capacity`` are out.
  /// - Throws: ``BufferError/closed``; ``BufferError/system(_:)`` if one had to be made, and could not be.
  /// - Complexity: O(1), no system call; or that of ``SharedBuffer/init(byteCount:prefersHugePages:)`` for one that has to be made.
  public func tryTake() throws(BufferError) -> UntrustedBuffer? { try core.tryTake() }

  /// Lends a buffer, when there is one: tasks are served in the order in which they came.
  ///
  /// - Throws: ``BufferError/closed``, also if that happens meanwhile; ``BufferError/cancelled`` if the task is cancelled;
  ///   ``BufferError/system(_:)``.
  public func take() async throws(BufferError) -> UntrustedBuffer { try await core.take() }

  /// Takes a buffer back, which has come from another process, or is not wanted after all. It is closed here.
  ///
  /// What comes from others is only asked which buffer it is: the pool lends what it has kept itself.
  ///
  /// - Throws: ``BufferError/notLent`` for a buffer of somebody else's, a frozen one, or one that no other process has to give back;
  ///   ``BufferError/gone``, ``BufferError/closed``, if the buffer is, or the pool; ``BufferError/system(_:)``. The buffer stays
  ///   the caller's.
  /// - Complexity: O(``capacity``).
  public func giveBack(_ buffer: MessageBuffer) throws(BufferError) { try core.giveBack(buffer) }

  /// Lets go of all buffers. Those that are out are their holders' for good; tasks that wait are told.
  public func close() { core.close() }
}
