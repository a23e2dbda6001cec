import CSupport
import SharedRing

/// How long a loop looks around before it sleeps; by default, longer while that has recently been worth it.
struct LoopSpin {
  /// Waking a sleeper costs tens of microseconds; looking around for longer than that is never worth it.
  private static let most: UInt64 = 50_000
  private static let least: UInt64 = 1_000

  private let isAdaptive: Bool
  private var nanoseconds: UInt64

  init(_ policy: SpinPolicy) {
    isAdaptive = policy == .adaptive
    switch policy {
    case .never: nanoseconds = 0
    case .adaptive: nanoseconds = 20_000
    case .duration(let duration): nanoseconds = UInt64(clamping: duration.nanoseconds)
    case .always: nanoseconds = .max
    }
    // With one processor, whom the loop waits for cannot run meanwhile.
    if !Processors.areSeveral { nanoseconds = 0 }
  }

  /// One look around; `nil`: none, sleep at once.
  func begin() -> Remaining? {
    guard nanoseconds > 0 else { return nil }
    return Remaining(lasting: nanoseconds)
  }

  struct Remaining {
    /// How long a thread that spins may be deaf for what only the kernel tells: hang-ups, descriptors, armed doorbells.
    private static let deafNanoseconds: UInt64 = 50_000

    private let end: UInt64
    private(set) var now = csupport_monotonic_ns()
    private var nextVisit: UInt64

    init(lasting nanoseconds: UInt64) {
      end = EventLoop.deadline(in: nanoseconds)
      nextVisit = now + Self.deafNanoseconds
    }

    mutating func goesOn() -> Bool {
      for _ in 0..<8 { csupport_cpu_relax() }
      now = csupport_monotonic_ns()
      return now < end
    }

    /// Whether it is time to ask the kernel. Never during the short looks of ``SpinPolicy/adaptive``.
    mutating func isVisitDue() -> Bool {
      guard now >= nextVisit else { return false }
      nextVisit = now + Self.deafNanoseconds
      return true
    }
  }

  mutating func succeeded() { if isAdaptive { nanoseconds = min(Self.most, nanoseconds * 2) } }
  mutating func failed() { if isAdaptive { nanoseconds = max(Self.least, nanoseconds / 2) } }
}
