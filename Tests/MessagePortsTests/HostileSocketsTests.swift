import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// What the maker of a channel can do to its sockets, which others hold by then.
@Suite("Hostile sockets", .serialized, .timeLimit(.minutes(3)))
struct HostileSocketsTests {
  enum Named: String, CaseIterable, Sendable, CustomStringConvertible {
    case own = "its own socket"
    case sent = "the one that it has sent"
    var description: String { rawValue }
  }

  /// A name that the kernel chooses, which no file system knows.
  private func bindToName(_ socket: CInt) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let result = unsafe withUnsafeMutableBytes(of: &address) { bytes in
      unsafe bind(socket, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), 2)
    }
    #expect(result == 0)
  }

  /// A port at the victim, its far end, and a copy of the victim's own socket in the hands of whoever has sent it.
  private func makePort(_ scene: Scene) async throws -> (port: MessagePort, far: RawEnd, near: Descriptors) {
    let made = try HandMadePort()
    let forged = made.forged()
    let near = Descriptors([copy(of: forged.fds[0])])
    scene.carrier.post([0, 0]) { scene.carrier.send(words: [ForgedPort.header(1)] + forged.words, forged.fds) }
    made.letGo()
    let event = try await scene.arrived.wait(for: 1)[0]
    scene.arrived.removeAll()
    return (try #require(event.ports.first), made.far, near)
  }

  @Test(
    "9.5 Whoever gives a channel's socket a name loses that channel; who passes it on in good faith loses nothing",
    arguments: Named.allCases)
  func named(_ named: Named) async throws {
    let scene = try await Scene()
    let (port, far, near) = try await makePort(scene)
    let honest = try MessageChannel()
    let agent = try Agent(.anotherProcess)
    bindToName(named == .own ? far.socket : near.all[0])
    far.post([1])
    try await agent.call(.keep, 0, transfer: [honest.port2, port])
    try await agent.call(.expectEnd, 1)
    try await agent.call(.post, 0, 5, 1)
    try await onThread { try honest.port1.expect(5) }
    // Nobody is told anything through it any more.
    #expect(csupport_socket_is_hung_up(far.socket) == 1)
  }

  @Test("9.5 A port whose socket is connected to a server arrives closed, and the server is told nothing")
  func socketOfServer() async throws {
    let scene = try await Scene()
    let path = freshPath(".server")
    let server = unsafe csupport_socket_listen(path, 1)
    let client = unsafe csupport_socket_connect(path)
    unsafe unlink(path)
    let accepted = csupport_socket_accept(server)
    let sockets = Descriptors([server, client, accepted])
    let made = try HandMadePort()
    var forged = made.forged()
    forged.fds[0] = client
    scene.carrier.post([0, 0]) { scene.carrier.send(words: [ForgedPort.header(1)] + forged.words, forged.fds) }
    let port = try #require(try await scene.arrived.wait(for: 1)[0].ports.first)
    try port.postMessage(bytes: [1])
    try port.postMessage(bytes: [], transfer: [MessageChannel().port1])
    let told = try listen(port, .handler, on: scene.loop)
    #expect(try await told.wait(for: 1)[0].isViolation)
    var byte: UInt8 = 0
    var received = csupport_received()
    #expect(unsafe csupport_receive_packet(accepted, &byte, 1, nil, 0, &received) == 0)
    try await scene.checkFriend()
    withExtendedLifetime((sockets, made)) {}
  }

  @Test("9.5, 4.4 Once the other end is gone, a name harms nobody, and what was posted arrives")
  func namedAndGone() async throws {
    let scene = try await Scene()
    let (port, far, near) = try await makePort(scene)
    let agent = try Agent(.anotherProcess)
    bindToName(near.all[0])
    far.put(word(.message, 8), words: [7])
    far.hangUp()
    try await agent.call(.keep, 0, transfer: [port])
    try await agent.call(.expect, 0, 7, 1)
    try await agent.call(.expectEnd, 0)
  }

  /// A split port in whose queue lies a message with the other end, which nobody else holds any more.
  private func makeHalvesWithTheirPeer(_ scene: Scene) async throws -> PortHalves {
    let (port, far) = try await scene.makePort()
    let halves = try port.split()
    let own = ForgedPort(far, near: far.socket)
    far.post([1]) { far.send(words: [ForgedPort.header(1)] + own.words, own.fds) }
    far.hangUp()
    return halves
  }

  @Test("4.1 A peer that sends its own end in a message does not hide its death from a reader that takes no ports")
  func readerLetsGo() async throws {
    let scene = try await Scene()
    let halves = try await makeHalvesWithTheirPeer(scene)
    try await onThread {
      var reader = halves.takeReader()
      let byteCount = try reader.readSoon { $0.byteCount }
      #expect(byteCount == 1)
      do {
        _ = try reader.readSoon { $0.byteCount }
        Issue.record("something came after the end")
      } catch {
        #expect("\(error)" == "peerClosed(peer exited)")
      }
    }
  }

  @Test("4.1 Nor from one that polls")
  func pollingReaderLetsGo() async throws {
    let scene = try await Scene()
    let halves = try await makeHalvesWithTheirPeer(scene)
    try await onThread {
      var reader = halves.takeReader()
      var count = 0
      try waitUntil("the end") {
        do throws(PortError) {
          if try reader.tryRead({ $0.byteCount }) != nil { count += 1 }
          return false
        } catch {
          #expect("\(error)" == "peerClosed(peer exited)")
          return true
        }
      }
      #expect(count == 1)
    }
  }

  @Test("9.5 Who waits for space goes on when the peer breaks the format", arguments: EventLoop.Driver.allCases)
  func waitsForSpace(_ driver: EventLoop.Driver) async throws {
    let scene = try await Scene(driver: driver)
    let (port, far) = try await scene.makePort(queueLimit: 4096)
    port.setEventLoop(scene.loop)
    while (try? port.postMessage(bytes: [UInt8](repeating: 1, count: 64))) != nil {}
    let hasGoneOn = Flag()
    let waiting = Task {
      try await port.waitForSpace(byteCount: 64)
      hasGoneOn.set()
    }
    try await eventually("the loop to watch") { far.theirLane.loadDoorbell(.space) != Doorbell.awake }
    // It lives on, and keeps its socket.
    far.send([1, 2])
    try await eventually("the task to go on") { hasGoneOn.isSet }
    try await waiting.value
    #expect(port.isPeerClosed)
    withExtendedLifetime(far) {}
  }

  /// Sends more descriptors than are let in while as many wait to be closed, which lasts until somebody else closes
  /// something: whoever looks at the port has to do that on a thread that cannot start those who close.
  private func fillWithDescriptors(_ port: MessagePort, _ far: RawEnd) throws -> LingeringSocket {
    let deaf = EventLoop(name: "deaf")
    deaf.stop()
    port.setEventLoop(deaf)
    let slow = LingeringSocket()
    csupport_close_elsewhere(slow.descriptor)
    // A thread that was still on its way would take the others first, which have lower numbers. The number of what is being
    // closed is free right after that has begun.
    try waitUntil("a thread to close") { fcntl(slow.descriptor, F_GETFD) < 0 }
    let fds = [CInt](repeating: far.memory.fd, count: Int(CSUPPORT_MAX_PACKET_FDS))
    far.put(word(.message, 1, ports: 1), [7])
    // Not so many that the kernel looks for cycles among all that are in flight, here and in other tests: see
    // `Tests/Attack/PlainEcho.swift`.
    var count = 0
    while count < 6, far.send([1], fds) > 0 { count += 1 }
    try #require(count == 6)
    return slow
  }

  /// How often this thread has gone to sleep.
  private static var sleeps: Int {
    var usage = rusage()
    unsafe getrusage(1, &usage)  // RUSAGE_THREAD
    return usage.ru_nvcsw
  }

  @Test("9.5 A reader whose next message is held back until descriptors were closed sleeps meanwhile, and then has it")
  func readerHeldBack() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let tests = HostileSocketsTests()
        let scene = try await Scene()
        let (port, far) = try await scene.makePort()
        let slow = try tests.fillWithDescriptors(port, far)
        let sent = try HandMadePort()
        sent.send(over: far)
        let halves = try port.split()
        let (sleeps, held) = try await Refusal.during([Refusal(.clone, EAGAIN), Refusal(.clone3, EAGAIN)]) {
          var reader = halves.takeReader()
          // The first looks take in as many as are let in.
          for _ in 0..<20 { #expect(try reader.tryRead { $0.byteCount } == nil) }
          let before = HostileSocketsTests.sleeps
          do {
            _ = try reader.read(timeout: .milliseconds(200)) { $0.byteCount }
            Issue.record("it has come")
          } catch PortError.timedOut {}
          let sleeps = HostileSocketsTests.sleeps - before
          #expect(try reader.tryRead { $0.byteCount } == nil)
          return (sleeps, PortHalves(halves.takeWriter(), reader))
        }
        // Another thread closes them, and nothing is lost.
        csupport_close_elsewhere(csupport_eventfd_create())
        try await onThread {
          var reader = held.takeReader()
          try waitUntil("the message") { try reader.tryRead { $0.byteCount } == 1 }
          #expect(reader.takePorts().count == 1)
        }
        #expect(sleeps > 1)
        withExtendedLifetime((slow, sent)) {}
      }
    }
  }

  /// With few descriptors, there is none left for the one that another thread closes: what could not be started has to be
  /// tried again by whoever waits for it.
  @Test(
    "9.5, 13.6 What a peer sends to be closed takes up few descriptors, though closing takes its time",
    arguments: [nil, 560] as [Int?])
  func slowClosing(_ left: Int?) async {
    await #expect(processExitsWith: .success) { [left] in
      await recordErrors {
        let scene = try await Scene()
        let (port, far) = try await scene.makePort()
        try await letDispatchOpenItsOwn()
        setLimit(RLIMIT_NOFILE, nil)
        // So few that some of a third packet's have no room, and enough for too many to wait.
        if let left { leaveDescriptors(left) }
        let before = Resources.now().descriptors
        let slow = try HostileSocketsTests().fillWithDescriptors(port, far)
        let sent = try HandMadePort()
        sent.send(over: far)
        let hasCome = try await Refusal.during([Refusal(.clone, EAGAIN), Refusal(.clone3, EAGAIN)]) {
          for _ in 0..<200 { if case .message = try port.tryReceive() { return true } }
          do { _ = try port.receive(timeout: .milliseconds(100)) } catch PortError.timedOut { return false }
          return true
        }
        #expect(!hasCome)
        let most = 4 * Int(CSUPPORT_MAX_PACKET_FDS)
        // With few descriptors, there may be none to count them with.
        if left == nil { #expect(Resources.now().descriptors <= before + most) }
        try await scene.checkFriend()
        // Another thread closes them, and nothing is lost.
        csupport_close_elsewhere(csupport_eventfd_create())
        let event = try await onThread { () -> MessageEvent? in
          var event: MessageEvent?
          try waitUntil("the message") {
            if case .message(let found)? = try? port.tryReceive() { event = found }
            return event != nil
          }
          return event
        }
        #expect(event?.bytes == [7] && event?.ports.count == 1)
        withExtendedLifetime((slow, sent)) {}
      }
    }
  }
}
