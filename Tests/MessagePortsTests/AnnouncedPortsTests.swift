import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// Ports are announced by a record before their packet comes, and the announcement may be withdrawn.
@Suite("Announced ports", .serialized, .timeLimit(.minutes(3)))
struct AnnouncedPortsTests {
  // MARK: - Honest peers

  @Test(
    "6.1 A message waits for the packet that its record announces, without costing anything", arguments: Style.allCases)
  func packetComesLater(_ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let traveller = try HandMadePort()
    far.post([1])
    try await told.wait(for: 1)
    far.post([2], ports: 1)
    let use = try await scene.loopUse(during: .milliseconds(100))
    #expect(use < 0.2, "\(use) of a processor")
    #expect(told.count == 1)
    traveller.send(over: far)
    far.signal()
    #expect(try await told.wait(for: 2).last == .message([2], ports: 1))
    // What is looked at before the packet has come is not taken in place of it.
    far.post([3])
    #expect(try await told.wait(for: 3).last == .message([3], ports: 0))
    withExtendedLifetime(port) {}
  }

  @Test(
    "6.1 A thread that looks, and one that waits for some time only, leave a message alone whose packet has not come")
  func lookingEarly() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    far.put(word(.message, 1, ports: 1), [1])
    far.signal()
    guard case .empty = try port.tryReceive() else { throw Scene.Failure("taken without its ports") }
    let error = try await onThread { portError { _ = try port.receive(timeout: .milliseconds(20)) } }
    #expect(error == "timedOut")
    try HandMadePort().send(over: far)
    #expect(try await onThread { try port.receiveSoon().ports.count } == 1)

    let (other, otherFar) = try await scene.makePort()
    let halves = try other.split()
    otherFar.put(word(.message, 1, ports: 1), [1])
    otherFar.signal()
    try await onThread {
      var reader = halves.takeReader()
      if try reader.tryRead({ $0.byteCount }) != nil { throw Scene.Failure("read without its ports") }
      #expect(portError { try reader.waitForMessage(timeout: .milliseconds(20)) } == "timedOut")
      try HandMadePort().send(over: otherFar)
      if try reader.tryRead({ $0.byteCount }) != 1 { throw Scene.Failure("not read") }
      #expect(reader.takePorts().count == 1)
    }
  }

  enum Withdrawn: String, CaseIterable, Sendable {
    case whole, fragments, behindAPad
  }

  @Test(
    "2.2 A message whose ports are withdrawn is never seen, and the next one has its own", arguments: Style.allCases,
    Withdrawn.allCases)
  func withdrawn(_ style: Style, _ kind: Withdrawn) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let traveller = try HandMadePort()
    switch kind {
    case .whole: far.put(word(.message, 1, ports: 1), [1])
    case .fragments:
      far.put(word(.firstFragment, 16), words: [16, 5])
      far.put(word(.lastFragment, 8, ports: 1), words: [6])
    case .behindAPad:
      // A victim that has read the beginning of the lap lets it be written again.
      let capacity = far.memory.laneCapacity
      while far.offset < capacity - 64 { far.post([UInt8](repeating: 7, count: 24)) }
      try await told.wait(for: far.offset / 32)
      let rest = capacity - far.offset - 8 - 16
      far.put(word(.message, UInt32(rest), ports: 1), [UInt8](repeating: 1, count: rest))
      far.store(0, at: 0)
      far.put(word(.pad, UInt32(capacity - far.offset - 8)))
      far.offset = 0
    }
    far.signal()
    let before = told.count
    far.put(word(.withdrawal))
    far.post([2]) { traveller.send(over: far) }
    #expect(try await told.wait(for: before + 1).last == .message([2], ports: 1))
    far.hangUp()
    #expect(try await told.wait(for: before + 2).last == .close("peer exited"))
    withExtendedLifetime(port) {}
  }

  @Test(
    "4.8 Of a message whose poster dies between its record and its packet, nothing comes but the close",
    arguments: Style.allCases, [true, false])
  func diesInBetween(_ style: Style, _ isLate: Bool) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    if !isLate {
      far.post([1])
      far.put(word(.message, 1, ports: 1), [2])
      far.hangUp()
    }
    let told = try listen(port, style, on: scene.loop)
    if isLate {
      far.post([1])
      try await told.wait(for: 1)
      far.post([2], ports: 1)
      usleepBriefly(10_000)
      far.hangUp()
    }
    #expect(try await told.wait(for: 2) == [.message([1], ports: 0), .close("peer exited")])
    withExtendedLifetime(port) {}
    try await scene.checkFriend()
  }

  // MARK: - Others

  /// What comes through the socket, and no record announces.
  enum Unannounced: String, CaseIterable, Sendable {
    case ownEnd, ownEndBehindNothing, ownEndInNothing, ownEndInADoorbell, nonsense

    func send(over far: RawEnd) {
      var own = ForgedPort(far, near: far.socket)
      own.words[0] = UInt64(far.end)
      switch self {
      case .ownEnd: far.send(words: [ForgedPort.header(1)] + own.words, own.fds)
      case .ownEndBehindNothing:
        sendEmptyPacket(over: far.socket, [])
        far.send(words: [ForgedPort.header(1)] + own.words, own.fds)
      case .ownEndInNothing: sendEmptyPacket(over: far.socket, own.fds)
      case .ownEndInADoorbell: far.send([1], own.fds)
      case .nonsense: far.send(words: [1, 2, 3], [far.memory.fd])
      }
    }
  }

  @Test(
    "4.1 A peer that leaves its own end in the queue, announced by nobody, does not hide its death",
    arguments: Style.allCases, Unannounced.allCases)
  func hidesNothing(_ style: Style, _ packet: Unannounced) async throws {
    for hasRecord in [false, true] {
      let scene = try await Scene()
      let (port, far) = try await scene.makePort()
      let told = try listen(port, style, on: scene.loop)
      far.post([1])
      try await told.wait(for: 1)
      // It rings nobody.
      if hasRecord { far.put(word(.message, 1), [2]) }
      packet.send(over: far)
      far.hangUp()
      var all = try await told.wait(for: hasRecord ? 3 : 2)
      if hasRecord { #expect(all.remove(at: 1) == .message([2], ports: 0)) }
      #expect(all[0] == .message([1], ports: 0))
      #expect(packet == .ownEndInADoorbell ? all[1] == .close("peer exited") : all[1].isViolation, "\(all)")
      withExtendedLifetime(port) {}
      try await scene.checkFriend()
    }
  }

  @Test(
    "4.1, 4.5 So it is where nobody takes messages: a close handler hears of it, once what waits was taken",
    arguments: EventLoop.Driver.allCases, [false, true])
  func hidesNothingFromIdle(_ driver: EventLoop.Driver, _ hasMessage: Bool) async throws {
    let scene = try await Scene(driver: driver)
    let (port, far) = try await scene.makePort()
    port.setEventLoop(scene.loop)
    let closes = Collected<CloseReason>()
    port.onClose = { closes.append($0) }
    if hasMessage { far.post([1]) }
    Unannounced.ownEnd.send(over: far)
    far.hangUp()
    if hasMessage {
      // Not before: the message waits. Then somebody takes it, and not by a handler.
      try await scene.checkFriend()
      #expect(closes.count == 0)
      #expect(try await onThread { try port.receiveSoon().bytes } == [1])
    }
    guard case .protocolViolation = try await closes.wait(for: 1)[0] else {
      Issue.record("\(closes.all)")
      return
    }
  }

  @Test("4.1 Nor does it hide it from whoever gets the port afterwards", arguments: Style.allCases)
  func hidesNothingFromTheNext(_ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    Unannounced.ownEnd.send(over: far)
    far.hangUp()
    let (near, other) = try sharedChannelHere()
    try near.postMessage(bytes: [1], transfer: [port])
    let moved = try #require(try await onThread { try other.receiveSoon() }.ports.first)
    let told = try listen(moved, style, on: scene.loop)
    let all = try await told.wait(for: 1)
    #expect(all[0].isViolation, "\(all)")
    withExtendedLifetime((moved, near)) {}
  }

  @Test(
    "4.1 An end that another channel's queue holds is let go when that channel is closed for it",
    arguments: Style.allCases)
  func heldByAnother(_ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let (holder, holderFar) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let held = try listen(holder, style, on: scene.loop)
    let own = ForgedPort(far, near: far.socket)
    // Of what is announced as three ports, one is an end of the other channel.
    holderFar.post([1], ports: 3) { holderFar.send(words: [ForgedPort.header(3)] + own.words, own.fds) }
    for _ in 0..<3 { holderFar.send(words: [ForgedPort.header(1)] + own.words, own.fds) }
    far.hangUp()
    #expect(try await held.wait(for: 1)[0].isViolation)
    // Its owner keeps it, and lives.
    #expect(try await told.wait(for: 1) == [.close("peer exited")])
    withExtendedLifetime((port, holder, holderFar)) {}
  }

  @Test("9.5 Announcements that are no correct peer's end the channel", arguments: Style.allCases)
  func badAnnouncements(_ style: Style) async throws {
    let scene = try await Scene()
    let cases: [(String, (RawEnd) throws -> Void)] = [
      ("a withdrawal of nothing", { $0.put(word(.withdrawal)) }),
      (
        "a withdrawal of a message without ports",
        {
          $0.put(word(.message, 1), [1]); $0.put(word(.withdrawal))
        }
      ),
      (
        "a withdrawal with something in it",
        { far in
          far.put(word(.message, 1, ports: 1), [1])
          far.put(word(.withdrawal, 8), words: [0])
        }
      ),
      (
        "a second withdrawal",
        { for record in [word(.message, 0, ports: 1), word(.withdrawal), word(.withdrawal)] { $0.put(record) } }
      ),
      (
        "a packet of what was withdrawn",
        { far in
          far.put(word(.message, 0, ports: 1))
          far.put(word(.withdrawal))
          try HandMadePort().send(over: far)
        }
      ),
      (
        "a packet too many",
        { far in
          try far.post([1]) { for _ in 0..<2 { try HandMadePort().send(over: far) } }
        }
      ),
    ]
    for (what, act) in cases {
      let (port, far) = try await scene.makePort()
      let told = try listen(port, style, on: scene.loop)
      try act(far)
      far.signal()
      try await eventually("a violation after \(what): \(told.all)") { told.all.last?.isViolation == true }
      withExtendedLifetime(port) {}
    }
    try await scene.checkFriend()
  }
}

/// A packet without a byte in it, which the library never sends.
private func sendEmptyPacket(over socket: CInt, _ fds: [CInt]) {
  let byteCount = fds.count * MemoryLayout<CInt>.size
  // A header of 16 bytes, then the descriptors.
  var control = [UInt8](repeating: 0, count: 16 + (byteCount + 7) / 8 * 8)
  unsafe control.withUnsafeMutableBytes { buffer in
    unsafe buffer.storeBytes(of: 16 + byteCount, as: Int.self)
    unsafe buffer.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: CInt.self)
    unsafe buffer.storeBytes(of: 1, toByteOffset: 12, as: CInt.self)  // SCM_RIGHTS
    for (index, fd) in fds.enumerated() {
      unsafe buffer.storeBytes(of: fd, toByteOffset: 16 + 4 * index, as: CInt.self)
    }
    var part = unsafe iovec()
    unsafe withUnsafeMutablePointer(to: &part) { part in
      var message = unsafe msghdr()
      unsafe message.msg_iov = part
      unsafe message.msg_iovlen = 1
      if !fds.isEmpty {
        unsafe message.msg_control = buffer.baseAddress
        unsafe message.msg_controllen = buffer.count
      }
      let sent = unsafe sendmsg(socket, &message, CInt(MSG_DONTWAIT))
      #expect(sent == 0)
    }
  }
}
