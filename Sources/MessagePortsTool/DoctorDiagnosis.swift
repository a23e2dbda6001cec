import FoundationEssentials

/// What the facts mean for message ports. Depends on the facts alone: nothing is looked up here.
package struct Diagnosis: Encodable, Sendable {
  package let facts: MachineFacts
  package let room: ChannelRoom
  /// Where the memory of channels will come from.
  package let backing: Backing
  package private(set) var findings: [Finding] = []

  /// The names are those of the library's `MemoryBacking`.
  package enum Backing: String, Codable, Sendable, CaseIterable {
    case memfd, posixSharedMemory
  }

  package init(_ facts: MachineFacts) {
    self.facts = facts
    room = ChannelRoom(facts.limits)
    // Like the library: what it does not know, it takes for its default.
    backing = facts.overrides.backing.flatMap(Backing.init) ?? .memfd
    findings = judgeEventLoop() + judgeMemory() + judgeLimits() + judgeProcesses()
  }

  /// Whether message ports between processes can work here as things are. Local channels always do.
  package var isUsable: Bool { !findings.contains { $0.level == .problem } }

  package func findings(about topic: Finding.Topic) -> [Finding] { findings.filter { $0.topic == topic } }

  private enum Key: CodingKey { case usable, driver, backing, room, findings, facts }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(isUsable, forKey: .usable)
    try container.encodeIfPresent(facts.eventLoop.driver, forKey: .driver)
    try container.encode(backing, forKey: .backing)
    try container.encode(room, forKey: .room)
    try container.encode(findings, forKey: .findings)
    try container.encode(facts, forKey: .facts)
  }

  package func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}

/// How many ends of channels that other processes share one process can have at a time, as far as each limit allows;
/// `nil` where there is no limit. Channels that are local to a process need none of this.
package struct ChannelRoom: Codable, Hashable, Sendable {
  /// An end holds a socket and the channel's memory.
  package var byOpenFiles: UInt64?
  /// An end maps the channel's first page.
  package var byMappings: UInt64?
  /// With a bigger ring in each direction, too.
  package var byMappingsOnceGrown: UInt64?
  /// Two sockets and the memory, whoever holds them: for all processes together.
  package var bySystemFiles: UInt64?

  init(_ limits: LimitFacts) {
    byOpenFiles = limits.openFiles.soft.number.map { Self.room($0, used: Self.descriptorsInUse, each: 2) }
    let mapped = limits.mappingsInUse ?? 0
    byMappings = limits.mappings.map { Self.room($0, used: mapped, each: 1) }
    byMappingsOnceGrown = limits.mappings.map { Self.room($0, used: mapped, each: 3) }
    bySystemFiles = limits.systemFiles.map { Self.room($0, used: limits.systemFilesInUse ?? 0, each: 3) }
  }

  /// Standard input, output and error; and an event loop's epoll, eventfd and io_uring, with one to spare.
  static var descriptorsInUse: UInt64 { 3 + 4 }

  private static func room(_ limit: UInt64, used: UInt64, each: UInt64) -> UInt64 {
    limit > used ? (limit - used) / each : 0
  }

  /// What the tightest limit allows.
  package var tightest: UInt64? { [byOpenFiles, byMappings, bySystemFiles].compactMap(\.self).min() }

  /// Fewer than this, and a program of some size runs out.
  static var comfortable: UInt64 { 1_000 }
}
