import CSupport
import CTestSupport
import Glibc

/// What a process holds of what the system can run out of.
public struct Resources: Sendable, Hashable {
  public var descriptors: Int
  /// Of shared memory: those of the heap and of libraries come and go as they like.
  public var mappings: Int
  /// But for those that close for others: there are a few of them, and they stay for two seconds after the last.
  public var threads: Int

  public static func now(of process: Int32? = nil) -> Resources {
    let directory = "/proc/\(process.map { "\($0)" } ?? "self")"
    return Resources(
      descriptors: entries(of: directory + "/fd").count,
      mappings: lines(of: directory + "/maps").count { $0.contains("/memfd:") || $0.contains("/dev/shm/") },
      threads: entries(of: directory + "/task").count - closers(of: directory))
  }

  /// The threads of this process that close for others.
  public static var closers: Int { closers(of: "/proc/self") }

  private static func closers(of directory: String) -> Int {
    entries(of: directory + "/task").count { text(of: "\(directory)/task/\($0)/comm") == "messageports-cl\n" }
  }

  /// Nothing is more than it was.
  public func isWithin(_ before: Resources) -> Bool {
    descriptors <= before.descriptors && mappings <= before.mappings && threads <= before.threads
  }

  /// The memory that this process has in use, in KiB.
  public static var residentKilobytes: Int { field("VmRSS:", of: "/proc/self/status") }

  /// The addresses that this process has in use, in KiB.
  public static var addressSpaceKilobytes: Int { field("VmSize:", of: "/proc/self/status") }

  /// All shared memory in the system, in KiB.
  public static var sharedKilobytes: Int { field("Shmem:", of: "/proc/meminfo") }

  /// The processor time that this process has used.
  public static var processorTime: Duration {
    var usage = rusage()
    unsafe getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    let micros = [usage.ru_utime, usage.ru_stime].map { $0.tv_sec * 1_000_000 + Int($0.tv_usec) }.reduce(0, +)
    return .microseconds(micros)
  }

  private static func field(_ name: String, of path: String) -> Int {
    let line = lines(of: path).first { $0.hasPrefix(name) } ?? ""
    return line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? -1
  }
}

/// Under a sanitizer, starts its helper now: the first race that it suppresses would take two descriptors in mid-count.
public func startSymbolizer() {
  typealias Symbolize =
    @convention(c) (UnsafeRawPointer, UnsafePointer<CChar>, UnsafeMutablePointer<CChar>, Int) -> Void
  guard let symbol = unsafe dlsym(nil, "__sanitizer_symbolize_pc") else { return }
  var text = [CChar](repeating: 0, count: 256)
  unsafe unsafeBitCast(symbol, to: Symbolize.self)(symbol, "%f", &text, text.count)
}

/// The names in a directory, without `.` and `..`.
public func entries(of directory: String) -> [String] {
  guard let stream = unsafe opendir(directory) else { return [] }
  defer { unsafe closedir(stream) }
  var names: [String] = []
  while let entry = unsafe readdir(stream) {
    let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
      unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
    }
    if name != "." && name != ".." { names.append(name) }
  }
  return names
}

public func linkTarget(_ path: String) -> String? {
  var buffer = [CChar](repeating: 0, count: 4096)
  let count = unsafe readlink(path, &buffer, buffer.count)
  guard count >= 0 else { return nil }
  return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// A file's text; empty if it cannot be read.
public func text(of path: String) -> String {
  guard let file = unsafe fopen(path, "re") else { return "" }
  defer { unsafe fclose(file) }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = unsafe fread(&buffer, 1, buffer.count, file)
    if count == 0 { return String(decoding: bytes, as: UTF8.self) }
    bytes += buffer[..<count]
  }
}

public func lines(of path: String) -> [Substring] { text(of: path).split(separator: "\n") }

/// Sets a soft limit of this process; `nil`: as high as allowed.
public func setLimit(_ resource: __rlimit_resource, _ value: Int?) {
  let resource = __rlimit_resource_t(resource.rawValue)
  var limit = rlimit()
  unsafe getrlimit(resource, &limit)
  limit.rlim_cur = value.map { rlim_t($0) } ?? limit.rlim_max
  let result = unsafe setrlimit(resource, &limit)
  precondition(result == 0, "no such limit")
}

/// From now on so many more bytes of addresses can be had; `nil`: as many as allowed. The threads that the runtime starts in
/// the meantime take 8 MiB each for their stacks, and no heaps of their own, which would be more than tests leave.
public func leaveAddresses(_ byteCount: Int?) {
  ctest_share_heaps()
  setLimit(RLIMIT_AS, byteCount.map { (Resources.addressSpaceKilobytes << 10) + $0 })
}

/// From now on so many more descriptors can be had, however many this process was born with.
public func leaveDescriptors(_ count: Int) {
  var limit: CInt = 0
  var free = 0
  while free < count {
    if fcntl(limit, F_GETFD) < 0 { free += 1 }
    limit += 1
  }
  setLimit(RLIMIT_NOFILE, Int(limit))
}

/// A path in `/tmp` that nobody has used.
public func freshPath(_ suffix: String = "") -> String {
  "/tmp/messageports-tests-\(getpid())-\(UInt32.random(in: 0 ... .max))\(suffix)"
}
