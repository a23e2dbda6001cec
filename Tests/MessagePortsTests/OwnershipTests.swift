import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("7 Ownership", .ownThread, .timeLimit(.minutes(10)))
struct OwnershipTests {
  @Test(
    "7.1 A started port with a message handler needs no reference; it goes when the peer closes",
    arguments: Place.allCases)
  func keptUntilPeerCloses(_ place: Place) throws {
    let received = Received()
    weak var port: MessagePort?
    let control: Puppet
    do {
      let channel = try MessageChannel()
      // The puppet's near port is another channel's, so that nothing here refers to this one.
      control = try Puppet(place, taking: channel.port2, near: try MessageChannel().port1)
      port = channel.port1
      channel.port1.onClose = received.closeHandler
      channel.port1.onMessage = received.messageHandler
    }
    try control.post(0..<10)
    try received.wait(for: 10)
    #expect(port != nil)
    try control.post(10..<20)
    #expect(try received.wait(for: 20) == Array(0..<20))
    try control.close()
    try received.waitForClose()
    try waitUntil("the port to be released") { port == nil }
  }

  @Test("7.1 It goes when it is closed", arguments: Place.allCases)
  func keptUntilClosed(_ place: Place) throws {
    weak var port: MessagePort?
    do {
      let strong = try place.open(.echo)
      strong.onMessage = { _ in }
      port = strong
    }
    try settle()
    #expect(port != nil)
    port?.close()
    try waitUntil("the port to be released") { port == nil }
  }

  @Test("7.1 It goes when the handler is removed, and so closes", arguments: Place.allCases)
  func keptUntilHandlerIsRemoved(_ place: Place) throws {
    weak var port: MessagePort?
    let control: Puppet
    do {
      let channel = try MessageChannel()
      control = try Puppet(place, taking: channel.port2, near: try MessageChannel().port1)
      channel.port1.onMessage = { _ in }
      port = channel.port1
    }
    try settle()
    #expect(port != nil)
    port?.onMessage = nil
    #expect(port == nil)
    #expect(try control.awaitClose() == 0)
  }

  @Test("7.1 It goes when it is transferred away", arguments: Place.allCases)
  func keptUntilTransferred(_ place: Place) throws {
    weak var port: MessagePort?
    let peer: MessagePort
    do {
      let channel = try MessageChannel()
      channel.port1.onMessage = { _ in }
      port = channel.port1
      peer = channel.port2
    }
    try place.place(try #require(port), .echo)
    try waitUntil("the old object to be released") { port == nil }
    try peer.postMessage(bitwise: 1)
    #expect(try peer.receiveNumber() == 1)
  }

  @Test("7.1 Handlers may refer to their own port without keeping it for ever", arguments: Place.allCases)
  func cyclesEnd(_ place: Place) throws {
    weak var port: MessagePort?
    let control: Puppet
    do {
      let channel = try MessageChannel()
      let strong = channel.port1
      control = try Puppet(place, taking: channel.port2, near: try MessageChannel().port1)
      strong.onClose = { _ in withExtendedLifetime(strong) {} }
      strong.onMessageError = { _ in withExtendedLifetime(strong) {} }
      strong.onMessage = { event in try? strong.postMessage(bytes: event.bytes) }
      port = strong
    }
    try control.post(0..<1)
    #expect(try control.receive(1) == 1)
    try control.close()
    try waitUntil("the port to be released") { port == nil }
  }

  enum Other: String, CaseIterable { case untouched, started, withCloseHandler, handlerNotStarted }

  @Test("7.1 Handlers that are set after the last event keep nothing", arguments: Place.allCases)
  func handlersAfterTheEnd(_ place: Place) throws {
    let received = Received()
    weak var port: MessagePort?
    do {
      let channel = try MessageChannel()
      let control = try Puppet(place, taking: channel.port2, near: try MessageChannel().port1)
      let strong = channel.port1
      strong.onClose = received.closeHandler
      try control.close()
      try received.waitForClose()
      strong.onMessage = { _ in _ = strong.isStarted }
      strong.onClose = { _ in _ = strong.isStarted }
      strong.onMessageError = { _ in _ = strong.isStarted }
      port = strong
    }
    try waitUntil("the port to be released") { port == nil }
  }

  @Test(
    "7.2 Any other port closes when the last reference to it is released", arguments: Place.allCases,
    [Other.untouched, .started, .withCloseHandler])
  func othersClose(_ place: Place, _ other: Other) throws {
    let control: Puppet
    weak var port: MessagePort?
    do {
      let channel = try MessageChannel()
      control = try Puppet(place, taking: channel.port2, near: try MessageChannel().port1)
      port = channel.port1
      switch other {
      case .started: channel.port1.start()
      case .withCloseHandler:
        channel.port1.onClose = { _ in }
        channel.port1.onMessageError = { _ in }
      default: break
      }
      try channel.port1.post(0..<5)
    }
    // What it had posted arrives, and then the end.
    #expect(try control.awaitClose() == 5)
    #expect(port == nil)
  }

  @Test("7.2 So do both ports of a channel that nobody refers to", arguments: [false, true])
  func bothEnds(_ isShared: Bool) throws {
    weak var first: MessagePort?
    weak var second: MessagePort?
    do {
      let channel = try MessageChannel()
      let (port1, port2) = isShared ? try share(channel) : (channel.port1, channel.port2)
      try port1.postMessage(bitwise: 1)
      try port2.postMessage(bitwise: 1)
      (first, second) = (port1, port2)
    }
    try waitUntil("the ports to be released") { first == nil && second == nil }
  }

  @Test("7.1, 7.2 A kept port hears of its peer's release, though nobody refers to either", arguments: [false, true])
  func keptWithoutPeer(_ isShared: Bool) throws {
    let received = Received()
    weak var port: MessagePort?
    do {
      let channel = try MessageChannel()
      let (port1, port2) = isShared ? try share(channel) : (channel.port1, channel.port2)
      port1.onClose = received.closeHandler
      port1.onMessage = received.messageHandler
      try port2.post(0..<3)
      port = port1
    }
    #expect(try received.waitForClose() == (0..<3).map { .message($0) } + [.close(.closedByPeer)])
    try waitUntil("the port to be released") { port == nil }
  }

  @Test("7.2 Iterating a port's messages keeps it as long as the iteration lasts", arguments: Place.allCases)
  func iterationKeeps(_ place: Place) async throws {
    let numbers = Collected<Int>()
    let control: Puppet
    weak var port: MessagePort?
    do {
      let channel = try MessageChannel()
      control = try Puppet(place, taking: channel.port2, near: try MessageChannel().port1)
      port = channel.port1
      let messages = channel.port1.messages
      Task {
        for try await event in messages {
          numbers.append(try event.load(as: Int.self))
          if numbers.count == 3 { break }
        }
      }
    }
    for number in 0..<3 {
      try control.post(number..<number + 1)
      try await numbers.wait(for: number + 1)
    }
    #expect(try control.awaitClose() == 0)
    #expect(port == nil)
  }

  @Test(
    "7.3 Ports in a received message that the handler does not keep close when the event is released",
    arguments: Place.allCases)
  func portsNotKept(_ place: Place) throws {
    let port = try place.open(.echo)
    let carried = try (0..<4).map { _ in try MessageChannel() }
    let closed = Collected<Int>(), kept = Promise<MessagePort>()
    for (index, channel) in carried.enumerated() { channel.port1.onClose = { _ in closed.append(index) } }
    port.onMessage = { event in kept.fulfil(event.ports[2]) }
    try port.postMessage(bytes: [], transfer: carried.map(\.port2))
    #expect(try closed.wait(for: 3).sorted() == [0, 1, 3])
    #expect(try kept.wait().isUsable(with: carried[2].port1))
    #expect(!carried[2].port1.isPeerClosed)
  }

  @Test("7.3 As long as somebody has a copy of the event, its ports stay open", arguments: Place.allCases)
  func eventKeepsPorts(_ place: Place) throws {
    let port = try place.open(.echo), carried = try MessageChannel()
    let closed = Promise<CloseReason>()
    carried.port1.onClose = closed.fulfil
    try port.postMessage(bytes: [], transfer: [carried.port2])
    var event: MessageEvent? = try port.receiveSoon()
    try settle(place)
    #expect(closed.value == nil)
    event = nil
    _ = try closed.wait()
    #expect(event == nil)
  }
}
