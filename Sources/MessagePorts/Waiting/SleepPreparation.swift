import SharedRing

/// Whether an end may sleep, and on which word.
@safe
enum SleepPreparation: @unchecked Sendable {  // the word lies in the memory
  case ready(UnsafeMutableRawPointer, ChannelMemory)
  case hasWork
  case notNeeded
}
