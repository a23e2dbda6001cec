import CSupport
import Glibc
import SharedRing

/// One wait: the looking around before a sleep, and what is to be learned from it for the next one.
///
/// Whoever waits again and again keeps what ``ended()`` returns. With ``SpinPolicy/adaptive``, spinning is worth it if the
/// wait is over while it lasts, or would have been if it had lasted a little longer: a wait that is short doubles the time
/// for the next one, another one halves it.
struct Spin {
  /// Waking a sleeper costs tens of microseconds; looking around for longer than that is never worth it.
  private static let most: UInt64 = 50_000
  private static let least: UInt64 = 1_000
  /// What somebody begins with who has learned nothing yet.
  static let first: UInt64 = 20_000
  /// How long a thread that spins, or is busy, may be deaf to what only the kernel tells: hang-ups, descriptors, armed doorbells.
  static let deafNanoseconds: UInt64 = 50_000

  /// How long a thread sleeps that has to look by itself whether there is something.
  static let napNanoseconds: Int64 = 1_000_000
  /// How long one sleeps that has to ask by itself whether the other end is gone.
  static let aloneNanoseconds: Int64 = 10_000_000

  private let learned: UInt64
  private let isAdaptive: Bool
  private let began: UInt64
  private let end: UInt64
  private(set) var now: UInt64
  private var nextVisit: UInt64

  init(_ policy: SpinPolicy, learned: UInt64) {
    self.learned = learned
    isAdaptive = policy == .adaptive && Processors.areSeveral
    let nanoseconds = Self.nanoseconds(policy, learned)
    began = nanoseconds > 0 ? csupport_monotonic_ns() : 0
    now = began
    end = Deadline.time(nanoseconds, after: began)
    nextVisit = Deadline.time(Self.deafNanoseconds, after: began)
  }

  private static func nanoseconds(_ policy: SpinPolicy, _ learned: UInt64) -> UInt64 {
    switch policy {
    case .always: .max
    // On one processor, whom we wait for cannot run meanwhile.
    case .adaptive: Processors.areSeveral ? learned : 0
    case .duration(let duration): Processors.areSeveral ? UInt64(clamping: duration.nanoseconds) : 0
    case .never: 0
    }
  }

  /// Whether the caller looks once more before it sleeps; a moment later, if so. Once it was `false`, it stays so.
  mutating func goesOn() -> Bool {
    guard now < end else { return false }
    Self.pause()
    now = csupport_monotonic_ns()
    return now < end
  }

  private static func pause() {
    // On one processor: let others run.
    guard Processors.areSeveral else {
      sched_yield()
      return
    }
    // Each takes some 25 ns, and what comes meanwhile waits for the rest of it. Looking more often would not slow the other side
    // down: between two looks at a line that has not changed, nothing is transferred.
    for _ in 0..<2 { csupport_cpu_relax() }
  }

  /// Whether it is time to ask the kernel. Never during the short looks of ``SpinPolicy/adaptive``.
  mutating func isVisitDue() -> Bool {
    guard now >= nextVisit, now < end else { return false }
    nextVisit = now + Self.deafNanoseconds
    return true
  }

  /// The wait is over, whether it has come to a sleep or not. How long to spin the next time, if that is to be remembered.
  func ended() -> UInt64? {
    guard isAdaptive else { return nil }
    return Self.learn(from: (now < end ? now : csupport_monotonic_ns()) - began, learned)
  }

  static func learn(from waited: UInt64, _ learned: UInt64) -> UInt64 {
    // A sleeper has waited for being woken, too.
    waited <= 2 * most ? min(most, learned * 2) : max(least, learned / 2)
  }
}
