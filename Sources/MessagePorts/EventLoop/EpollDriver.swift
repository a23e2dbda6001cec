import CSupport
import SharedRing

/// Sleeps on epoll alone: a port's doorbell is a packet on its socket.
final class EpollDriver: LoopDriver {
  private let epoll: CInt
  private let waker: LoopWaker
  private var buffer = [csupport_event](repeating: csupport_event(), count: 256)

  init(epoll: CInt, waker: LoopWaker) {
    self.epoll = epoll
    self.waker = waker
  }

  var doorbell: UInt32 { Doorbell.asleepOnSocket }

  /// The socket is watched all the time.
  func arm(_ wait: LoopWait, _ token: EventLoop.Token, _ word: UnsafeMutableRawPointer, in memory: ChannelMemory) {}
  func disarm(_ token: EventLoop.Token) {}

  func collect(sleepingSince ticket: UInt32?, timeoutNanoseconds: Int64, into events: inout [LoopEvent]) -> Bool {
    poll(timeoutNanoseconds: ticket == nil ? 0 : timeoutNanoseconds, into: &events)
    return true
  }

  func poll(timeoutNanoseconds: Int64, into events: inout [LoopEvent]) {
    let count = unsafe buffer.withUnsafeMutableBufferPointer { buffer in
      unsafe csupport_epoll_wait(epoll, buffer.baseAddress, CInt(buffer.count), timeoutNanoseconds)
    }
    guard count > 0 else { return }
    for event in buffer[..<Int(count)] {
      if event.token == 0 { waker.drain() } else { events.append(.descriptor(event.token, events: event.events)) }
    }
  }
}
