import CSupport
import SharedRing
import Synchronization

/// What the two halves of a split port share: the end of the channel. It closes when both are gone.
@usableFromInline final class SplitEnd: Sendable {
  let channel: SharedChannel
  let end: Int
  let options: ChannelOptions
  let loop: EventLoop
  /// On which the threads that have the halves sleep, besides the doorbells.
  let privateWord: PrivateWord
  private let hangUp: HangUpWatch
  private let mark = ProcessMark.current
  private let token: EventLoop.Token
  /// The halves were joined: the end lives on, behind a port.
  private let isJoined = Atomic<Bool>(false)

  init(channel: SharedChannel, end: Int, options: ChannelOptions, loop: EventLoop) {
    self.channel = channel
    self.end = end
    self.options = options
    self.loop = loop
    privateWord = PrivateWord()
    hangUp = HangUpWatch(privateWord, channel)
    token = loop.watch(channel.descriptor, hangUp, events: hangUp.events)
  }

  deinit {
    // The memory and the socket are not the channel's any more, and the loop has forgotten.
    if isInherited { return }
    loop.unwatch(token)
    if isJoined.load(ordering: .relaxed) { return }
    channel.memory.words(lane: end).storeClosedByOwner()
    channel.hangUp()
  }

  /// This process was forked from the one that had split the port.
  var isInherited: Bool { mark.isInherited }

  func checkProcess() throws(PortError) { if isInherited { throw .closed } }

  /// Nobody holds the other end any more, as far as the loop has heard.
  var isPeerGone: Bool { hangUp.isOver }

  /// Packets have come since this was last taken back by ``takePackets()``.
  var hasPackets: Bool { hangUp.hasPackets }

  func takePackets() -> Bool { hangUp.takePackets() }

  /// If the loop hears nothing while the caller waits: finds out whether anybody holds the other end. Returns how long to
  /// sleep at most before the next time (< 0: without limit).
  func listen() -> Int64 {
    guard loop.isDeaf else { return -1 }
    if channel.isHungUp { hangUp.ready(UInt32(CSUPPORT_EVENT_HUP)) }
    return Spin.aloneNanoseconds
  }

  /// Why nobody does. To be told once everything was read.
  var closeReason: CloseReason {
    let words = channel.memory.words(lane: 1 - end)
    if words.loadClosedByOwner() { return .closedByPeer }
    return words.loadIsInMessage() ? .undelivered : .peerExited(nil)
  }

  /// From now on the end belongs to a port, and nothing here closes it.
  func handOver() { isJoined.store(true, ordering: .relaxed) }
}

/// Hears packets come and the other end hang up, and makes the threads that have the halves look again.
private final class HangUpWatch: LoopWatcher {
  private let privateWord: PrivateWord
  private let channel: SharedChannel
  private let over = Atomic<Bool>(false)
  private let packets = Atomic<Bool>(false)

  init(_ privateWord: PrivateWord, _ channel: SharedChannel) {
    self.privateWord = privateWord
    self.channel = channel
  }

  /// Halves sleep on futexes only, so nobody signals them on the socket: what comes is ports.
  var events: UInt32 { UInt32(CSUPPORT_EVENT_IN) | UInt32(CSUPPORT_EVENT_EDGE) }

  /// [hang-up] Acquire: pairs with ``ready(_:)``. The kernel's report came after everything that the peer has stored,
  /// so readers look at the ring once more.
  var isOver: Bool { over.load(ordering: .acquiring) }

  /// [packets] Acquire: pairs with the release in ``ready(_:)``. The reader looks at the socket afterwards, and finds what
  /// was reported.
  var hasPackets: Bool { packets.load(ordering: .acquiring) }

  /// [packets] Acquire: pairs with the release in ``ready(_:)``, for the same reason.
  func takePackets() -> Bool { hasPackets && packets.exchange(false, ordering: .acquiring) }

  func ready(_ events: UInt32) {
    if events & UInt32(CSUPPORT_EVENT_IN) != 0 {
      // [packets] Release, before the ring: pairs with the acquire of ``hasPackets`` and ``takePackets()``.
      packets.store(true, ordering: .releasing)
      privateWord.ring()
    }
    guard events & UInt32(CSUPPORT_EVENT_HUP | CSUPPORT_EVENT_ERR) != 0 else { return }
    // [hang-up] Release, before the ring: see ``isOver``.
    over.store(true, ordering: .releasing)
    // The other end may have shut down half of its socket only.
    channel.hangUp()
    privateWord.ring()
  }

  func loopHasEnded() { privateWord.ring() }
}
