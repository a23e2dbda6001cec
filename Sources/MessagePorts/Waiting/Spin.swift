import CSupport
import SharedRing

/// The spinning before a sleep.
struct Spin {
  private let endNanoseconds: UInt64?
  private(set) var isOver: Bool

  init(_ policy: SpinPolicy) {
    // With one processor, whom we wait for cannot run while we spin.
    guard Processors.areSeveral else {
      (isOver, endNanoseconds) = (policy != .always, nil)
      return
    }
    switch policy {
    case .never: (isOver, endNanoseconds) = (true, nil)
    case .always: (isOver, endNanoseconds) = (false, nil)
    case .adaptive: (isOver, endNanoseconds) = (false, csupport_monotonic_ns() + 20_000)
    case .duration(let duration):
      (isOver, endNanoseconds) = (false, csupport_monotonic_ns() + UInt64(clamping: duration.nanoseconds))
    }
  }

  mutating func pause() {
    for _ in 0..<16 { csupport_cpu_relax() }
    if let endNanoseconds, csupport_monotonic_ns() >= endNanoseconds { isOver = true }
  }
}
