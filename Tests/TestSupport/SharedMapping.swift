import Glibc

/// A mapping of a channel's memory in this process, as the kernel sees it.
public struct SharedMapping: Sendable, Hashable {
  public let kilobytes: Int
  /// All of it or nothing, as its flags say. (What `smaps` calls "Locked" is shared out among all that map a page.)
  public let lockedKilobytes: Int

  /// All of that size.
  public static func all(ofKilobytes kilobytes: Int) -> [SharedMapping] {
    var found: [SharedMapping] = []
    var fields: [Substring: Int] = [:]
    var isShared = false
    for line in lines(of: "/proc/self/smaps") {
      let words = line.split(separator: " ")
      guard let first = words.first else { continue }
      if !first.hasSuffix(":") {
        isShared = line.contains("/memfd:message-port") || line.contains("/dev/shm/")
        fields = [:]
        continue
      }
      if words.count >= 2 { fields[first] = Int(words[1]) }
      // The last one.
      guard first == "VmFlags:", isShared, fields["Size:"] == kilobytes else { continue }
      found.append(
        SharedMapping(kilobytes: kilobytes, lockedKilobytes: words.contains("lo") ? kilobytes : 0))
    }
    return found
  }
}

/// Whether this process may lock so many bytes.
public func mayLock(_ byteCount: Int) -> Bool {
  let memory = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
  guard let memory = unsafe memory, unsafe memory != MAP_FAILED else { return false }
  defer { unsafe munmap(memory, byteCount) }
  return unsafe mlock(memory, byteCount) == 0
}
