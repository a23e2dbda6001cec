#if CRASH_POINTS
  import Glibc
  import Synchronization
#endif

/// The steps at which a process can be made to die, in a build with `-D CRASH_POINTS`, to see what that does to others.
/// In any other build they are no code at all.
@usableFromInline package enum CrashPoint: String, CaseIterable, Sendable {
  // Posting.
  case postWritten, postTerminated, postCommitted, batchCommitted, wrapped
  case fragmentPublished, fragmentsWritten
  // Waking the receiver.
  case wakeDecided, wakeTaken, wakeDone
  // Waiting for space, and giving it.
  case spaceAnnounced, spaceResumed, spaceWakeTaken
  // Growing and shrinking.
  case growReserved, growMapped, growLinkWritten, growLinked, shrunk
  // Sharing a local channel.
  case shareMade, shareWritten, shared
  // Transferring.
  case transferListed, transferDescribed, transferStaged, transferAnnounced, transferSent, transferFinished
  // Transferring what has received a message in part.
  case partMade, partRead
  // Splitting and joining.
  case splitDetached, splitTaken, joined, joinHandedOver
  // Receiving.
  case receiveFound, receiveConsumed, receivePacketCopied, receivePacketTaken, receivePortsMade, released, linkMapped,
    linkFollowed
  case sleepAnnounced
  // Making a buffer that can be sent.
  case bufferWritten, bufferSealed
  // Asking and answering.
  case requestPosted, requestTaken, replyPosted, replyTaken
  // Sending the elements of a stream, and reading them.
  case elementPosted, elementTaken, streamEndPosted
  // Waiting for many ports.
  case setJoined, setListed, setTaken, setTold
  // Closing.
  case closeDecided, closeSaid, closeHungUp
  // Connecting.
  case listening, connected, helloSent, helloRead, welcomeSent, welcomeRead
}

#if CRASH_POINTS
  extension CrashPoint {
    package static let areCompiledIn = true

    /// Which step is armed: its index in `allCases`, plus one. And how many passes it has left.
    private static let armed = Atomic<Int>(0)
    private static let left = Atomic<Int>(0)

    /// Kills the process at its `pass`th arrival at `point` from now on.
    package static func arm(_ point: CrashPoint, pass: Int) {
      left.store(pass, ordering: .relaxed)
      // [crash-armed] Release: pairs with the acquire in `pass`, which then sees the number of passes.
      armed.store(allCases.firstIndex(of: point)! + 1, ordering: .releasing)
    }

    fileprivate func pass() {
      // [crash-armed] Acquire: pairs with the release in `arm`.
      let index = Self.armed.load(ordering: .acquiring)
      guard index > 0, Self.allCases[index - 1] == self else { return }
      if Self.left.wrappingSubtract(1, ordering: .relaxed).newValue == 0 { kill(getpid(), SIGKILL) }
    }
  }

  @usableFromInline @inline(never)
  package func crashPoint(_ point: CrashPoint) { point.pass() }
#else
  extension CrashPoint {
    package static let areCompiledIn = false
    package static func arm(_ point: CrashPoint, pass: Int) {}
  }

  @inlinable @inline(__always)
  package func crashPoint(_ point: CrashPoint) {}
#endif
