import CSupport

extension Lock where Value: ~Copyable {
  /// Runs `body` with the lock, unless somebody has it for longer than a moment: then it returns `nil`.
  func withLockSoon<Result>(_ body: (inout sending Value) -> sending Result) -> sending Result? {
    // About as long as a small message takes, several times over.
    for _ in 0..<100 {
      if let result = withLockIfAvailable(body) { return result }
      csupport_cpu_relax()
    }
    return nil
  }
}
