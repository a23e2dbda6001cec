import SharedRing

/// Threads that wait for the next message at a lane. A value; the lane's lock guards it.
///
/// An event costs a system call only while there is a thread that has not been told yet to look again.
struct SleepingThreads: Sendable {
  /// On which they sleep, the doorbell aside; made for the first.
  private var word: PrivateWord?
  /// How many sleep, or are about to, or have not been here since.
  private var count = 0
  /// All of them were rung, or will be by whoever has taken the word for that.
  private var areRung = false

  /// A thread is going to sleep. It hears of all that changes at this lane from now on.
  mutating func add() -> PrivateWord.Ticket {
    let word = self.word ?? PrivateWord()
    self.word = word
    count += 1
    areRung = false
    return word.ticket
  }

  /// A thread has come back. Its place may be another owner's by now, who has threads of its own.
  mutating func remove(_ ticket: PrivateWord.Ticket) {
    if ticket.word === word { count -= 1 }
  }

  /// Something has happened: what to ring once the lock is released. `nil`: nobody has to be told.
  mutating func ring() -> PrivateWord? {
    guard count > 0, !areRung else { return nil }
    areRung = true
    return word
  }
}
