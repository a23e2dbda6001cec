/// A pool's buffer that is out. What was lent has this, and its copies in this process have the same; the pool hears when the last
/// of them is gone.
final class BufferLoan: Sendable {
  let pool: BufferPoolCore
  private let slot: Int

  init(of slot: Int, in pool: BufferPoolCore) {
    (self.slot, self.pool) = (slot, pool)
  }

  deinit { pool.isGoneHere(slot) }

  /// It is about to be sent to another process, where nobody sees what becomes of it: it has to be given back.
  func leave() { pool.leaves(slot) }

  /// It was not sent after all.
  func stay() { pool.stays(slot) }
}
