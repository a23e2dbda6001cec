import MessagePorts
import TestSupport
import Testing

@Suite("1 Channels and ports", .ownThread, .timeLimit(.minutes(10)))
struct ChannelTests {
  @Test("1.1 What is posted on one port is received on the other, in both directions", arguments: Place.allCases)
  func bothDirections(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.port.post(0..<100)
    try puppet.post(100..<200)
    #expect(try puppet.receive(100) == 100)
    #expect(try puppet.port.receiveNumbers(100) == Array(100..<200))
    if case .empty = try puppet.port.tryReceive() {} else { Issue.record("something was received twice, or came back") }
  }

  @Test("1.1 The ends of one channel have nothing to do with those of another", arguments: Place.allCases)
  func channelsAreSeparate(_ place: Place) throws {
    let ports = try (0..<10).map { _ in try place.open(.echo) }
    for (index, port) in ports.enumerated() { try port.postMessage(bitwise: index) }
    for (index, port) in ports.enumerated() { #expect(try port.receiveNumber() == index) }
    for port in ports {
      if case .empty = try port.tryReceive() {} else { Issue.record("a message went astray") }
    }
  }

  @Test("1.1 Making channels needs no descriptors, no threads, and nothing to be running")
  func channelsCostNothing() throws {
    let report = try LoneProcess.run("channels")
    #expect(report["descriptors"] == 0)
    #expect(report["threads"] == 0)
  }

  @Test("1.1 Options outside their ranges are refused with a typed error")
  func invalidOptions() {
    let wrong = [
      ChannelOptions(laneCapacityBytes: -1), ChannelOptions(laneCapacityBytes: .max),
      ChannelOptions(queueLimitBytes: -1),
      ChannelOptions(messageLimitBytes: -1), ChannelOptions(messageLimitBytes: .max),
    ]
    for options in wrong { #expect(portError { _ = try MessageChannel(options: options) } == "invalidOption") }
  }

  @Test("1.2 A port says whether it is open, closed or detached")
  func lifeIsReadable() throws {
    let channel = try MessageChannel(), carrier = try MessageChannel()
    #expect(!channel.port1.isClosed && !channel.port1.isDetached)
    try carrier.port1.postMessage(bytes: [], transfer: [channel.port1])
    #expect(!channel.port1.isClosed && channel.port1.isDetached)
    channel.port2.close()
    #expect(channel.port2.isClosed && !channel.port2.isDetached)
    #expect(!carrier.port1.isClosed && !carrier.port1.isDetached)
  }

  @Test("1.2 A port says whether it is started, and an open one that its peer is not closed", arguments: Place.allCases)
  func startIsReadable(_ place: Place) throws {
    let port = try place.open(.hold)
    #expect(!port.isStarted && !port.isPeerClosed)
    port.start()
    #expect(port.isStarted && !port.isPeerClosed)
    port.close()
    #expect(!port.isStarted)
  }

  @Test("1.2 A port whose peer is closed is itself open, started or not", arguments: Place.allCases)
  func peerClosedIsSeparate(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.close()
    #expect(puppet.port.isPeerClosed && !puppet.port.isClosed && !puppet.port.isDetached && !puppet.port.isStarted)
    puppet.port.start()
    #expect(puppet.port.isPeerClosed && puppet.port.isStarted && !puppet.port.isClosed)
  }

  @Test("1.3 The queue belongs to the channel's end: what waits in it moves with it", arguments: Place.allCases)
  func queueMoves(_ place: Place) throws {
    let channel = try MessageChannel()
    try channel.port1.post(0..<10)
    let puppet = try Puppet(place, taking: channel.port2, near: channel.port1)
    #expect(channel.port2.isDetached)
    try channel.port1.post(10..<20)
    #expect(try puppet.receive(20) == 20)
  }

  @Test(
    "1.4 Posts of several threads are each atomic, and those of one thread keep their order", arguments: Place.allCases)
  func concurrentPosts(_ place: Place) throws {
    let port = try place.open(.checkThreads, [4, 2500])
    try FarRole.postFromThreads(port, 4, count: 2500)
    #expect(try port.receiveNumber() == 10_000)
  }

  @Test("1.4 So do those of the far end's threads", arguments: Place.allCases)
  func concurrentPostsOfFarEnd(_ place: Place) throws {
    let check = ThreadOrder(threads: 4, count: 2500)
    let closed = Promise<CloseReason>()
    let port = try place.open(.pourFromThreads, [4, 2500])
    port.onClose = closed.fulfil
    port.onMessage = { event in _ = check.isComplete(after: event) }
    #expect(try closed.wait() == .closedByPeer)
    #expect(check.inOrder == 10_000)
  }

  @Test("1.4 One port can be used by many threads for different things at the same time", arguments: Place.allCases)
  func allAtOnce(_ place: Place) throws {
    let port = try place.open(.echo)
    let taken = Collected<Int>()
    port.onMessageError = { _ in }
    try onThreads(5) { thread in
      switch thread {
      case 0, 1: for number in 0..<500 { try port.postMessage(bitwise: number) }
      case 2, 3:
        while taken.count < 1000 {
          if let event = try? port.receive(timeout: .milliseconds(50)) { taken.append(try event.load(as: Int.self)) }
        }
      default:
        for _ in 0..<500 {
          port.onClose = { _ in }
          _ = (port.isStarted, port.isPeerClosed, port.isClosed, port.queuedByteCount)
          port.onClose = nil
        }
      }
    }
    #expect(taken.all.sorted() == (0..<1000).map { $0 / 2 })
  }
}
