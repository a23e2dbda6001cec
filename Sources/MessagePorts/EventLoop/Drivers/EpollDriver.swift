import CSupport
import SharedRing

/// Sleeps on epoll alone: a port's doorbell is a packet on its socket.
final class EpollDriver: LoopDriver, @unchecked Sendable {  // the loop's thread owns what changes
  let epoll: CInt
  /// Wakes the loop from within its own process. Its token is 0.
  private let eventfd: CInt
  private var buffer = [csupport_event](repeating: csupport_event(), count: 256)
  /// For a loop that never sleeps: sleeps in its place, so that it need not ask the kernel again and again.
  private var lookout: EpollLookout?
  private var mayHaveLookout: Bool

  convenience init(of loop: EventLoop) throws(SystemError) {
    // On one processor, a thread that spins enters the kernel anyway, to let others run.
    try self.init(looksOut: loop.spinPolicy == .always && Processors.areSeveral)
  }

  /// - Parameter looksOut: a thread may be started that looks out for what happens while the loop spins.
  init(looksOut: Bool = false) throws(SystemError) {
    mayHaveLookout = looksOut
    let epoll = try check("epoll_create1") { csupport_epoll_create() }
    do throws(SystemError) {
      eventfd = try check("eventfd") { csupport_eventfd_create() }
    } catch {
      _ = csupport_close(epoll)
      throw error
    }
    self.epoll = epoll
    try checkOnce("epoll_ctl", csupport_epoll_add(epoll, eventfd, UInt32(CSUPPORT_EVENT_IN), 0))
  }

  deinit {
    _ = csupport_close(eventfd)
    _ = csupport_close(epoll)
  }

  var kind: EventLoop.Driver { .epoll }
  func wake() { _ = csupport_eventfd_signal(eventfd) }

  func watch(_ fd: CInt, events: UInt32, isClient: Bool, _ token: EventLoop.Token) -> CInt {
    let packets = isClient ? UInt32(CSUPPORT_EVENT_IN) | UInt32(CSUPPORT_EVENT_EDGE) : 0
    return csupport_epoll_add(epoll, fd, events | packets, token)
  }

  func unwatch(_ fd: CInt) { _ = csupport_epoll_remove(epoll, fd) }

  var doorbell: UInt32 { Doorbell.asleepOnSocket }
  /// The eventfd itself remembers that it was signalled.
  var ticket: UInt32 { 0 }

  /// The socket is watched all the time.
  func arm(_ wait: LoopWait, _ token: EventLoop.Token, _ word: UnsafeMutableRawPointer, in memory: ChannelMemory) {}
  func disarm(_ token: EventLoop.Token) {}

  func collect(
    sleepingSince ticket: UInt32?, timeoutNanoseconds: Int64, into events: inout [LoopEvent]
  ) -> (any LoopDriver)? {
    guard ticket == nil else {
      poll(timeoutNanoseconds: timeoutNanoseconds, into: &events)
      return nil
    }
    if mayHaveLookout {
      mayHaveLookout = false
      lookout = EpollLookout.start(for: self)
    }
    // The lookout has not seen what is there, and will say so.
    if lookout?.takeNews() == false { return nil }
    poll(timeoutNanoseconds: 0, into: &events)
    lookout?.goOn()
    return nil
  }

  func stopLookingOut() {
    lookout?.stop()
    lookout = nil
  }

  func poll(timeoutNanoseconds: Int64, into events: inout [LoopEvent]) {
    let count = unsafe buffer.withUnsafeMutableBufferPointer { buffer in
      unsafe csupport_epoll_wait(epoll, buffer.baseAddress, CInt(buffer.count), timeoutNanoseconds)
    }
    guard count > 0 else { return }
    for event in buffer[..<Int(count)] {
      if event.token == 0 {
        _ = csupport_eventfd_drain(eventfd)
      } else {
        events.append(.descriptor(event.token, events: event.events))
      }
    }
  }
}
