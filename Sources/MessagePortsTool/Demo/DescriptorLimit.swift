import Glibc

/// How many descriptors a process may have.
enum DescriptorLimit {
  /// Raises the limit as far as is allowed, and returns it. Ports take descriptors, and the usual limit of 1,024 is
  /// meant for programs that use `select`.
  @discardableResult
  static func raise() -> Int {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
    limit.rlim_cur = limit.rlim_max
    _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return Int(clamping: limit.rlim_cur)
  }
}
