import Synchronization

/// How a loop thinks of a client, by what it did in its last turns.
///
/// A greedy one has a turn only after all the others. It is fair again after two turns in a row of which it has not made too
/// much: one alone would let a peer have an expensive turn each time it rings, on as many ports as it likes.
enum LoopStanding: UInt64, Sendable {
  case fair
  /// It took more than its share, and waits among the greedy ones.
  case greedy
  /// It did not, for once. When something comes for it, it waits among the greedy ones again.
  case paroled
  /// It does.
  case waiting

  var waitsAmongGreedy: Bool { self == .greedy || self == .waiting }

  /// After a turn; one that was spent is to be put among the greedy ones.
  func after(_ result: TurnResult) -> LoopStanding {
    if case .spent = result { return .greedy }
    return self == .greedy ? .paroled : .fair
  }

  // MARK: Notes

  /// The client keeps the loop's note. Another loop may have written it, which had the client before, or has it by now: to this
  /// one, the client is fair then. (It must not be taken for one that waits here, or nobody would give it a turn.)
  init(note: UInt64, of loop: UInt64) {
    self = note >> 2 == loop ? LoopStanding(rawValue: note & 3) ?? .fair : .fair
  }

  func note(of loop: UInt64) -> UInt64 { loop << 2 | rawValue }

  private static let lastLoop = Atomic<UInt64>(0)

  /// A number that no other loop has.
  static func nextLoop() -> UInt64 { lastLoop.wrappingAdd(1, ordering: .relaxed).newValue }
}
