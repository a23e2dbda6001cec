import Glibc

extension Diagnosis {
  func judgeLimits() -> [Finding] {
    [channels, openFiles, systemFiles, mappings, fileSize, addressSpace, sockets].compactMap(\.self)
  }

  // MARK: Channels

  private var channels: Finding {
    guard let count = room.tightest else {
      return Finding(.limits, .ok, "channels", "no limit on those shared with other processes")
    }
    let limit =
      switch count {
      case room.byOpenFiles: "open files"
      case room.byMappings: "mappings"
      default: "open files of the whole system"
      }
    let text =
      "a process has room for \(count.grouped) shared with others, limited by \(limit); "
      + "channels within a process need nothing"
    return Finding(
      .limits, count == 0 ? .problem : count < ChannelRoom.comfortable ? .notice : .ok, "channels", text)
  }

  // MARK: Files

  private var openFiles: Finding {
    let limit = facts.limits.openFiles
    guard let count = room.byOpenFiles else { return Finding(.limits, .ok, "open files", "unlimited") }
    let ceiling = facts.limits.openFilesCeiling.map { ", fs.nr_open \($0.grouped)" } ?? ""
    let text =
      "\(Format.limit(limit.soft)) (hard limit \(Format.limit(limit.hard))\(ceiling)); a channel's end takes 2, "
      + "an event loop 4"
    return Finding(
      .limits, count < ChannelRoom.comfortable ? .notice : .ok, "open files", text,
      advice: count < ChannelRoom.comfortable ? [moreOpenFiles] : [])
  }

  /// For whoever runs out of descriptors. Only root can raise the hard limit.
  var moreOpenFiles: Advice {
    let limit = facts.limits.openFiles
    let wanted: UInt64 = min(65_536, facts.limits.openFilesCeiling ?? .max)
    guard let hard = limit.hard.number else { return Advice("raise the limit", command: "ulimit -n \(wanted)") }
    if let soft = limit.soft.number, soft < hard, hard >= Self.comfortableOpenFiles {
      return Advice("raise the limit as far as you may", command: "ulimit -n \(hard)")
    }
    return adviceForRoot("raise the limit of this shell", "prlimit --pid $$ --nofile=\(wanted):\(wanted)")
  }

  private static var comfortableOpenFiles: UInt64 { ChannelRoom.descriptorsInUse + 2 * ChannelRoom.comfortable }

  private var systemFiles: Finding? {
    guard let limit = facts.limits.systemFiles, let count = room.bySystemFiles else { return nil }
    let used = (facts.limits.systemFilesInUse ?? 0).grouped
    // Newer systems set it to the largest number of its type.
    let isUnlimited = limit >= 1 << 62
    let text =
      isUnlimited
      ? "no limit for the whole system"
      : "\(used) open of \(limit.grouped) for the whole system; a channel takes 3"
    guard count < ChannelRoom.comfortable else { return Finding(.limits, .ok, "fs.file-max", text) }
    return Finding(
      .limits, .notice, "fs.file-max", text,
      advice: [adviceForRoot("to raise it", "sysctl -w fs.file-max=\(max(limit * 2, 1 << 20))")])
  }

  private var fileSize: Finding {
    let limit = facts.limits.fileSizeBytes
    guard let soft = limit.soft.number, soft < farthestByteOfAChannel else {
      return Finding(.limits, .ok, "file size", "\(Format.limitBytes(limit.soft))")
    }
    return Finding(
      .limits, .notice, "file size",
      "\(Format.bytes(soft)): channels cannot grow, and posting fails once unread messages fill the memory that a "
        + "channel began with (its sparse file reaches to \(Format.bytes(farthestByteOfAChannel)))",
      advice: [largerFiles])
  }

  var largerFiles: Advice {
    facts.limits.fileSizeBytes.hard == .unlimited
      ? Advice("lift the limit", command: "ulimit -f unlimited")
      : adviceForRoot("lift the limit of this shell", "prlimit --pid $$ --fsize=unlimited:unlimited")
  }

  // MARK: Memory and sockets

  private var mappings: Finding? {
    guard let limit = facts.limits.mappings, let count = room.byMappings, let grown = room.byMappingsOnceGrown else {
      return nil
    }
    let text = "\(limit.grouped) mappings; a channel's end takes 1, and 3 once it has grown in both directions"
    guard min(count, grown) < ChannelRoom.comfortable else { return Finding(.limits, .ok, "vm.max_map_count", text) }
    return Finding(
      .limits, .notice, "vm.max_map_count", text,
      advice: [adviceForRoot("to raise it", "sysctl -w vm.max_map_count=262144")])
  }

  private var addressSpace: Finding {
    let limit = facts.limits.addressSpaceBytes
    guard let soft = limit.soft.number else { return Finding(.limits, .ok, "address space", "unlimited") }
    let advice =
      limit.hard == .unlimited
      ? Advice("lift the limit", command: "ulimit -v unlimited")
      : adviceForRoot("lift the limit of this shell", "prlimit --pid $$ --as=unlimited:unlimited")
    return Finding(
      .limits, .notice, "address space",
      "\(Format.bytes(soft)): the memory of channels counts, and grows with unread messages",
      advice: [advice])
  }

  private var sockets: Finding {
    guard facts.sockets.pair.worked else {
      return Finding(
        .limits, .problem, "sockets", "a Unix socket pair cannot be made: \(facts.sockets.pair)",
        advice: facts.sockets.pair == .failed(EMFILE) ? [moreOpenFiles] : [])
    }
    guard let bytes = facts.sockets.raisedSendBufferBytes else { return Finding(.limits, .ok, "sockets", "work") }
    // Measured: what the kernel counts for a packet with one port. One with more ports takes more.
    let packetBytes: UInt64 = 768
    let count = bytes / packetBytes
    let initial = facts.sockets.defaultSendBufferBytes.map { ", \(Format.bytes($0)) at first" } ?? ""
    let queue = facts.sockets.datagramQueueLength.map { "; net.unix.max_dgram_qlen = \($0) does not limit them" } ?? ""
    let text =
      "up to \(Format.bytes(bytes)) of send buffer\(initial): about \(count.grouped) messages with a port "
      + "can wait unread in a channel\(queue)"
    guard count < Self.comfortableMessagesWithPorts else { return Finding(.limits, .ok, "sockets", text) }
    return Finding(
      .limits, .notice, "sockets", text,
      advice: [adviceForRoot("to enlarge it", "sysctl -w net.core.wmem_max=4194304")])
  }

  /// Less than the kernel's own default allows (212,992 bytes, of which a socket gets double).
  private static var comfortableMessagesWithPorts: UInt64 { 500 }
}
