import Glibc
import TestSupport
import Testing

@testable import MessagePorts

@Suite("9.3 Ports whose memory is there before it is touched", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct PortResidencyTests {
  private static let laneCapacity = 3 << 20
  private static let kilobytes = 6148

  private func locked() -> [Int] { SharedMapping.all(ofKilobytes: Self.kilobytes).map(\.lockedKilobytes) }

  @Test(
    "9.3 A channel whose memory is to be locked is locked when it leaves, or is split, and not before",
    .enabled(if: mayLock(64 << 20), "this process may not lock so much"), arguments: [false, true])
  func whenShared(_ isSplit: Bool) throws {
    do {
      let channel = try MessageChannel(
        options: ChannelOptions(laneCapacityBytes: Self.laneCapacity, residency: .locked))
      #expect(locked() == [])
      if isSplit {
        try withExtendedLifetime(channel.port1.split()) { #expect(locked() == [Self.kilobytes]) }
      } else {
        let puppet = try Puppet(.anotherProcess, taking: channel.port2, near: channel.port1)
        #expect(locked() == [Self.kilobytes])
        try puppet.post(0..<3)
        for _ in 0..<3 { _ = try puppet.port.receiveSoon() }
      }
    }
    try waitUntil("the mapping to go") { locked() == [] }
  }

  @Test(
    "9.3, 9.5 A port that arrives is not locked, whatever the options of the port it came by; then the program says so",
    .enabled(if: mayLock(64 << 20), "no locks"))
  func arrived() throws {
    let travelling = try MessageChannel(options: ChannelOptions(laneCapacityBytes: Self.laneCapacity))
    // By way of another process, so that it arrives.
    let port = try FarProcess.shared.open(.echo, options: ChannelOptions(residency: .locked))
    try port.postMessage(bytes: [1], transfer: [travelling.port2])
    let event = try port.receiveSoon()
    let arrived = try #require(event.ports.first)
    // One end stayed here, and one has come back: two mappings.
    #expect(locked() == [0, 0])
    try arrived.makeResident(.locked)
    #expect(locked().sorted() == [0, Self.kilobytes])
    try arrived.makeResident(.locked)
    try arrived.postMessage(bytes: [9])
    #expect(try travelling.port1.receiveSoon().bytes == [9])
    arrived.close()
    try waitUntil("the mapping to go") { locked() == [0] }
    #expect(throws: PortError.self) { try arrived.makeResident(.locked) }
  }

  @Test("9.3 Where both ends are in this process, there is nothing to be made resident")
  func local() throws {
    let channel = try MessageChannel()
    try channel.port1.makeResident(.locked)
    channel.port1.close()
    do throws(PortError) {
      try channel.port1.makeResident(.locked)
      Issue.record("a closed port")
    } catch {
      #expect(error.code == .closed)
    }
  }

  @Test(
    "2.2, 9.3 What exceeds the limit on locked memory is refused by a typed error that names it, and has had no effect")
  func limit() throws {
    let report = try LoneProcess.run("lockLimit")
    #expect(report["post"] == 65_536)
    #expect(report["portsKept"] == 1)
    #expect(report["split"] == 65_536)
    #expect(report["spawn"] == 65_536)
    #expect(report["connect"] == 65_536)
    #expect(report["makeResident"] == 65_536)
    #expect(report["byteCountIsRight"] == 1)
    #expect(report["descriptorsMore"] == 0)
    #expect(report["mappingsMore"] == 0)
    #expect(report["locked"] == 0)
    // What fits is locked, and what is not to be locked goes on.
    #expect(report["small"] == 4)
    #expect(report["faultedIn"] == 1)
  }
}
