import CSupport
import SharedRing
import Synchronization

/// What the two halves of a split port share: the end of the channel that they are halves of. It closes when both are
/// gone.
@usableFromInline final class SplitEnd: Sendable {
  let channel: SharedChannel
  let end: Int
  let options: ChannelOptions
  let loop: EventLoop
  private let hangUp: HangUpWatch
  private let token: EventLoop.Token
  /// The halves were joined: the end lives on behind a port.
  private let isJoined = Atomic<Bool>(false)

  init(channel: SharedChannel, end: Int, options: ChannelOptions, loop: EventLoop) {
    self.channel = channel
    self.end = end
    self.options = options
    self.loop = loop
    hangUp = HangUpWatch(channel.memory, end: end, socket: channel.descriptor, loop: loop)
    token = loop.watch(channel.descriptor, hangUp, events: hangUp.events)
  }

  deinit {
    loop.unwatch(token)
    if isJoined.load(ordering: .relaxed) { return }
    channel.memory.words(lane: end).storeClosedByOwner()
    channel.hangUp()
  }

  /// Nobody holds the other end any more, as far as the loop has heard.
  var isPeerGone: Bool { hangUp.isOver }

  /// Why, for once everything was read.
  var closeReason: CloseReason {
    channel.memory.words(lane: 1 - end).loadClosedByOwner() ? .closedByPeer : .peerExited(nil)
  }

  /// From now on the end belongs to a port: nothing here closes it.
  func handOver() { isJoined.store(true, ordering: .relaxed) }
}

/// Hears the other end hang up, and wakes whoever sleeps on a doorbell of the channel.
private final class HangUpWatch: LoopWatcher {
  private let memory: ChannelMemory
  private let end: Int
  private let socket: CInt
  private let loop: EventLoop
  private let over = Atomic<Bool>(false)

  init(_ memory: ChannelMemory, end: Int, socket: CInt, loop: EventLoop) {
    self.memory = memory
    self.end = end
    self.socket = socket
    self.loop = loop
  }

  /// Halves sleep on futexes only, so that the socket is never rung.
  var events: UInt32 { UInt32(CSUPPORT_EVENT_EDGE) }

  /// [hang-up] Acquire: pairs with ``ready(_:)``. The kernel's report came after all that the peer has stored; readers look
  /// at the ring once more.
  var isOver: Bool { over.load(ordering: .acquiring) }

  func ready(_ events: UInt32) {
    // [hang-up] Release, before the doorbells: see ``isOver``.
    over.store(true, ordering: .releasing)
    memory.words(lane: 1 - end).wakeSleepers(.message)
    memory.words(lane: end).wakeSleepers(.space)
  }
}
