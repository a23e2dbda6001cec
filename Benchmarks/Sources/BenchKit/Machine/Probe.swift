import CBench

/// How far apart the two processors are at this moment: the hypervisor moves them.
///
/// A cache line is bounced between two threads, pinned to one processor each. It takes 120 to 150 ns for minutes ("near"),
/// then 560 to 620 ns for minutes ("far"), and everything small is 2 to 6 times slower there.
struct Probe {
  /// Up to here the processors are near.
  let nearNanoseconds: Double
  private let roundTrips: UInt32 = 5_000

  func measure() throws -> Double {
    let result = cbench_bounce(0, 1, roundTrips)
    guard result >= 0 else { throw Machine.Failure(description: "cannot bounce a cache line: error \(-Int(result))") }
    return result
  }

  func isNear(_ nanoseconds: Double) -> Bool { nanoseconds <= nearNanoseconds }
}

/// Keeps the processors from halting as long as it exists.
struct Spinners: ~Copyable {
  private let processes: [pid_t]

  init(on processors: [Int]) throws {
    processes = processors.map { cbench_start_spinner(CInt($0)) }
    if let failed = processes.first(where: { $0 < 0 }) {
      throw Machine.Failure(description: "cannot keep a processor awake: error \(-failed)")
    }
  }

  deinit { for process in processes { cbench_stop_spinner(process) } }
}
