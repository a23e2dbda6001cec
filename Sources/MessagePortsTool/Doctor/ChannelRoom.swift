/// How many ends of shared channels each limit allows a process; `nil` where there is no limit. Channels that
/// are local to a process need none of this.
package struct ChannelRoom: Codable, Hashable, Sendable {
  /// An end holds a socket and the channel's memory.
  package var byOpenFiles: UInt64?
  /// An end maps the channel's first page.
  package var byMappings: UInt64?
  /// With a bigger ring in each direction, too.
  package var byMappingsOnceGrown: UInt64?
  /// Two sockets and the memory, for all processes together, whoever holds them.
  package var bySystemFiles: UInt64?

  init(_ limits: LimitFacts) {
    byOpenFiles = limits.openFiles.soft.number.map { Self.room($0, used: Self.descriptorsInUse, each: 2) }
    let mapped = limits.mappingsInUse ?? 0
    byMappings = limits.mappings.map { Self.room($0, used: mapped, each: 1) }
    byMappingsOnceGrown = limits.mappings.map { Self.room($0, used: mapped, each: 3) }
    bySystemFiles = limits.systemFiles.map { Self.room($0, used: limits.systemFilesInUse ?? 0, each: 3) }
  }

  /// Standard input, output and error; an event loop's epoll, eventfd and io_uring; and one to spare.
  static var descriptorsInUse: UInt64 { 3 + 4 }

  private static func room(_ limit: UInt64, used: UInt64, each: UInt64) -> UInt64 {
    limit > used ? (limit - used) / each : 0
  }

  /// What the tightest limit allows.
  package var tightest: UInt64? { [byOpenFiles, byMappings, bySystemFiles].compactMap(\.self).min() }

  /// Fewer than this, and a program of some size runs out.
  static var comfortable: UInt64 { 1_000 }
}
