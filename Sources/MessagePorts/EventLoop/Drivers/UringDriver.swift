import CSupport
import Glibc
import SharedRing

/// Sleeps on io_uring: one futex wait for each port that waits, one for the waker, and one poll on the epoll
/// descriptor that watches the sockets.
///
/// Epoll polls the sockets, not io_uring itself, because a pending io_uring poll holds the file: if a port moved on and
/// died, its peer would not see that until this thread had taken the poll down. `EPOLL_CTL_DEL` takes effect at once,
/// from any thread.
@safe
final class UringDriver: LoopDriver, @unchecked Sendable {
  // The pointer is the io_uring that this owns. Only the loop's thread uses what changes.
  private let ring: OpaquePointer
  private let waker = LoopWaker()
  /// Watches the sockets, and takes over if io_uring is refused.
  private let epollDriver: EpollDriver
  /// The waits that the kernel has, and the memory that each needs to stay mapped.
  private var armed: [UInt64: ChannelMemory] = [:]
  /// What the kernel did not take when the submission queue was full: tried again before the loop sleeps.
  private var unarmed: [LoopEvent] = []
  private var uncancelled: [UInt64] = []
  private var isWakerArmed = false
  private var isEpollArmed = false
  private var completions = [csupport_completion](repeating: csupport_completion(), count: 256)

  init(_ epollDriver: EpollDriver) throws(SystemError) {
    var ring: OpaquePointer?
    try checkOnce("io_uring_setup", unsafe csupport_uring_create(256, &ring))
    guard let ring = unsafe ring else { throw SystemError(call: "io_uring_setup", errno: ENOMEM) }
    unsafe self.ring = unsafe ring
    self.epollDriver = epollDriver
  }

  deinit { unsafe csupport_uring_destroy(ring) }

  var kind: EventLoop.Driver { .uring }
  /// Where it spins, the kernel says in memory that it has something.
  func stopLookingOut() {}
  func wake() { waker.wake() }

  func watch(_ fd: CInt, events: UInt32, isClient: Bool, _ token: EventLoop.Token) -> CInt {
    epollDriver.watch(fd, events: events, isClient: isClient, token)
  }

  func unwatch(_ fd: CInt) { epollDriver.unwatch(fd) }

  var doorbell: UInt32 { Doorbell.asleepOnFutex }
  var ticket: UInt32 { waker.count }

  /// What has completed: the two low bits of the user data, with a port's token above them.
  private enum Tag {
    static let message: UInt64 = 0
    static let space: UInt64 = 1
    static let own: UInt64 = 2
    static let waker: UInt64 = 0 << 2 | own
    static let epoll: UInt64 = 1 << 2 | own
    static let ignored: UInt64 = 2 << 2 | own
  }

  func arm(_ wait: LoopWait, _ token: EventLoop.Token, _ word: UnsafeMutableRawPointer, in memory: ChannelMemory) {
    let key = token << 2 | wait.rawValue
    // A wait that the kernel still has does for this sleep as well.
    guard armed[key] == nil else { return }
    if unsafe csupport_uring_futex_wait(ring, key, word, Doorbell.asleepOnFutex) >= 0 {
      armed[key] = memory
    } else {
      // As if it had been signalled: the port gets a turn, and is armed after it.
      unarmed.append(wait == .space ? .space(token) : .message(token))
    }
  }

  func disarm(_ token: EventLoop.Token) {
    for wait in [LoopWait.message, .space] {
      let key = token << 2 | wait.rawValue
      if armed[key] != nil { cancel(key) }
    }
  }

  private func cancel(_ key: UInt64) {
    if unsafe csupport_uring_cancel(ring, Tag.ignored, key) < 0 { uncancelled.append(key) }
  }

  func collect(
    sleepingSince ticket: UInt32?, timeoutNanoseconds: Int64, into events: inout [LoopEvent]
  ) -> (any LoopDriver)? {
    if let ticket, !isWakerArmed {
      isWakerArmed = unsafe csupport_uring_futex_wait(ring, Tag.waker, waker.address, ticket) >= 0
    }
    if !isEpollArmed {
      isEpollArmed = unsafe csupport_uring_poll(ring, Tag.epoll, epollDriver.epoll, UInt32(CSUPPORT_EVENT_IN)) >= 0
    }
    // The thread may sleep only if the kernel knows everything that has to wake it.
    let maySleep = ticket != nil && isWakerArmed && isEpollArmed && unarmed.isEmpty && uncancelled.isEmpty
    events.append(contentsOf: unarmed)
    unarmed.removeAll(keepingCapacity: true)
    let count = unsafe completions.withUnsafeMutableBufferPointer { buffer in
      unsafe csupport_uring_enter(ring, maySleep, timeoutNanoseconds, buffer.baseAddress, CInt(buffer.count))
    }
    switch -count {
    case ..<0: for completion in completions[..<Int(count)] { note(completion, into: &events) }
    // Nothing, an interruption, or a moment without memory: the loop will come again.
    case 0, EINTR, EAGAIN, EBUSY, ENOMEM: break
    default:
      Log.logger.notice("event loop goes over to epoll: \(SystemError(call: "io_uring_enter", errno: -count))")
      return epollDriver
    }
    // The queue has room again.
    let late = uncancelled
    uncancelled.removeAll(keepingCapacity: true)
    for key in late where armed[key] != nil { cancel(key) }
    return nil
  }

  private func note(_ completion: csupport_completion, into events: inout [LoopEvent]) {
    switch completion.user_data {
    case Tag.waker: isWakerArmed = false
    case Tag.epoll:
      isEpollArmed = false
      epollDriver.poll(timeoutNanoseconds: 0, into: &events)
    case Tag.ignored: break
    default:
      armed[completion.user_data] = nil
      let token = completion.user_data >> 2
      events.append(completion.user_data & 3 == Tag.space ? .space(token) : .message(token))
    }
  }
}
