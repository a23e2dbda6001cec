extension KernelFiles {
  /// The tightest memory limit among this process's control group and those around it; `nil` if none limits it.
  package func cgroupMemory() -> CgroupMemory? {
    guard let group = memoryGroup() else { return nil }
    var path = group.path
    var tightest: CgroupMemory?
    // In a container the path may be the host's, and only its beginning exists here: go upwards.
    while true {
      let limitPath = "\(group.root)\(path)/\(group.limitFile)"
      if let limit: UInt64 = number(limitPath), limit < Self.asGoodAsUnlimited, limit < tightest?.limitBytes ?? .max {
        let used: UInt64? = number("\(group.root)\(path)/\(group.usageFile)")
        tightest = CgroupMemory(limitBytes: limit, usedBytes: used, path: limitPath)
      }
      guard let slash = path.lastIndex(of: "/") else { return tightest }
      path = String(path[..<slash])
    }
  }

  /// Version 1 says "unlimited" with a number near 2⁶³; version 2 says `max`, which is no number.
  private static var asGoodAsUnlimited: UInt64 { 1 << 62 }

  private struct MemoryGroup {
    var root: String
    /// Empty for the root itself, else beginning with a slash.
    var path: String
    var limitFile: String
    var usageFile: String
  }

  /// From `/proc/self/cgroup`: a line `number:controllers:path` for each hierarchy. Version 2 has the number 0 and
  /// names no controllers; a system that has both versions accounts memory in the one that names it.
  private func memoryGroup() -> MemoryGroup? {
    let lines = (text("/proc/self/cgroup") ?? "").split(separator: "\n").map {
      $0.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
    }.filter { $0.count == 3 }
    if let old = lines.first(where: { $0[1].split(separator: ",").contains("memory") }) {
      return MemoryGroup(
        root: "/sys/fs/cgroup/memory", path: Self.withoutTrailingSlash(old[2]), limitFile: "memory.limit_in_bytes",
        usageFile: "memory.usage_in_bytes")
    }
    if let new = lines.first(where: { $0[0] == "0" }) {
      return MemoryGroup(
        root: "/sys/fs/cgroup", path: Self.withoutTrailingSlash(new[2]), limitFile: "memory.max",
        usageFile: "memory.current")
    }
    return nil
  }

  private static func withoutTrailingSlash(_ path: Substring) -> String {
    path.hasSuffix("/") ? String(path.dropLast()) : String(path)
  }
}
