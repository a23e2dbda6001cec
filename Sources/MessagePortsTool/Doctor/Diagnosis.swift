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
    // As in the library, an unknown name means the default.
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
