import CSupport
import SharedRing

/// What has happened while a loop slept.
enum LoopEvent {
  /// A port's message doorbell rang, or its wait has to be armed anew.
  case message(EventLoop.Token)
  /// The same for a poster that waits for space.
  case space(EventLoop.Token)
  /// A watched descriptor has something to say.
  case descriptor(EventLoop.Token, events: UInt32)
}

/// What a loop sleeps on. Belongs to the loop's thread.
protocol LoopDriver: AnyObject {
  /// What a port that is about to sleep says in its doorbell.
  var doorbell: UInt32 { get }
  /// Sees to it that a ring on `word` ends the sleep; the memory stays mapped until it has, or ``disarm(_:)``.
  func arm(_ wait: LoopWait, _ token: EventLoop.Token, _ word: UnsafeMutableRawPointer, in memory: ChannelMemory)
  /// Ends the waits of a port that is gone.
  func disarm(_ token: EventLoop.Token)
  /// Collects what has happened; if `ticket` is given, sleeps until something does, or the waker has counted past it.
  /// `false`: the kernel will not let this driver work any more.
  func collect(sleepingSince ticket: UInt32?, timeoutNanoseconds: Int64, into events: inout [LoopEvent]) -> Bool
}

enum LoopWait: UInt64 {
  case message = 0
  case space = 1
}
