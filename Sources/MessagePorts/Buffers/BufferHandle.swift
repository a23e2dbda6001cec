import SharedRing

/// One place's hold on a buffer, which a post takes away: what a ``FrozenBuffer`` and an ``UntrustedBuffer`` have in common.
final class BufferHandle: Sendable {
  let byteCount: Int
  private let state: Lock<BufferState>
  private let mark = ProcessMark.current

  init(_ memory: BufferMemory) {
    byteCount = memory.file.byteCount
    state = Lock(.open(memory))
  }

  var isOpen: Bool { (try? memory()) != nil }

  func memory() throws(BufferError) -> BufferMemory {
    if mark.isInherited { throw .closed }
    return try state.withLock { (state) throws(BufferError) in try state.memory() }
  }

  /// Another hold on the same memory.
  func copy() throws(BufferError) -> BufferHandle { BufferHandle(try memory()) }

  func close() {
    while !mark.isInherited {
      do throws(BufferState.Refusal) {
        let memory = try state.withLock { (state) throws(BufferState.Refusal) in try state.close() }
        // Without the lock.
        withExtendedLifetime(memory) {}
        return
      } catch {
        TransferLock.wait { isDeparting }
      }
    }
  }

  // MARK: In a message

  /// A post of it is under way.
  var isDeparting: Bool { if case .departing = state.withLock({ $0 }) { true } else { false } }

  /// Why it cannot be posted, if so. One that is departing may come back.
  var problem: BufferProblem? { mark.isInherited ? .isClosed : state.withLock { $0.problem } }

  /// A post begins; nothing else happens to it until ``stay()`` or ``moveOn()``. Not if there is a ``problem``.
  func depart() -> Bool { state.withLock { $0.depart() } }

  /// It was not posted after all.
  func stay() { state.withLock { $0.stay() } }

  /// It goes over to another object in this process, or out of it. What is left of it is to be released without a lock.
  func moveOn() -> BufferMemory? { state.withLock { $0.post() } }

  /// Whose it is, if it was lent: of one that is departing, or waits in a queue.
  var loan: BufferLoan? { (try? memory())?.loan }

  /// The descriptor, of one that is departing, or waits in a queue, where nobody else can reach it.
  var descriptor: CInt { (try? memory())?.file.descriptor ?? -1 }
}
