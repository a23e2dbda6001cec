import Glibc

/// A wait of a test took longer than it may.
public struct DeadlineExceeded: Error, CustomStringConvertible {
  public let what: String
  public init(what: String) { self.what = what }
  public var description: String { "waited too long: \(what)" }
}

/// How long a test waits for what has to happen soon. Only a failing test waits that long.
///
/// `MESSAGEPORTS_TEST_PATIENCE` multiplies it, for a busy machine; without it, a sanitizer
/// multiplies it by three.
public let patience = Duration.seconds(40) * patienceFactor

private let patienceFactor: Int = {
  let text = unsafe getenv("MESSAGEPORTS_TEST_PATIENCE").map { unsafe String(cString: $0) }
  if let factor = text.flatMap({ Int($0) }), factor > 0 { return factor }
  return unsafe dlsym(nil, "__sanitizer_symbolize_pc") == nil ? 1 : 3
}()

/// Waits for something. Every wait of a test goes through here, or through ``eventually(_:within:_:)``.
///
/// The library's waits look once more when their time is up, so a lost wake-up does not fail them: it makes them slow.
/// So an outcome, result or error, that takes more than half the time is a failure.
@discardableResult
public func patiently<Result>(
  _ what: @autoclosure () -> String, within limit: Duration = patience, _ body: (Duration) throws -> Result
) throws -> Result {
  let began = ContinuousClock.now
  let outcome = Swift.Result { try body(limit) }
  let taken = ContinuousClock.now - began
  if taken > limit / 2 { throw DeadlineExceeded(what: "\(what()), after \(taken.inSeconds) of \(limit.inSeconds) s") }
  return try outcome.get()
}

/// Polls until `condition` holds. For what cannot be awaited otherwise: counts of descriptors, states of processes.
public func eventually(
  _ what: @autoclosure () -> String, within limit: Duration = patience, _ condition: () async throws -> Bool
) async throws {
  var spent = Duration.zero
  while try await !condition() {
    guard spent <= limit / 2 else { throw DeadlineExceeded(what: "\(what()), for \(spent.inSeconds) s") }
    let began = ContinuousClock.now
    try await Task.sleep(for: .milliseconds(2))
    // Where threads of the pool are scarce, this task may wait long for one, and nobody's wake-up is lost.
    spent += min(ContinuousClock.now - began, .milliseconds(50))
  }
}

/// The same on the calling thread.
public func waitUntil(
  _ what: @autoclosure () -> String, within limit: Duration = patience, _ condition: () throws -> Bool
) throws {
  try patiently(what(), within: limit) { limit in
    let began = ContinuousClock.now
    while try !condition(), ContinuousClock.now - began <= limit { usleep(1000) }
  }
}

extension Duration {
  public var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
