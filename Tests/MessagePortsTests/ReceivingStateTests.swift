import SharedRing
import Testing

@testable import MessagePorts

/// Everything that a receiving end can be in, and all that it can find, against a table of what is to happen.
@Suite("What a receiving end does next")
struct ReceivingStateTests {
  typealias State = ReceivingState

  /// A row stands for every state that it does not rule out. Each state has exactly one.
  struct Row<Finding: Sendable>: Sendable {
    var takers: [State.Taker] = State.Taker.allCases
    var phases: [State.Phase] = State.Phase.allCases
    var hasCloseHandler: [Bool] = [true, false]
    var isOnRing: [Bool] = [true, false]
    var packetsMayWait: [Bool] = [true, false]
    var finding: Finding
    var step: String

    func covers(_ state: State) -> Bool {
      takers.contains(state.taker) && phases.contains(state.phase) && hasCloseHandler.contains(state.hasCloseHandler)
        && isOnRing.contains(state.isOnRing) && packetsMayWait.contains(state.packetsMayWait)
    }
  }

  static let allStates = State.Taker.allCases.flatMap { taker in
    State.Phase.allCases.flatMap { phase in
      [true, false].flatMap { hasCloseHandler in
        [true, false].flatMap { isOnRing in
          [true, false].map {
            State(
              taker: taker, phase: phase, hasCloseHandler: hasCloseHandler, isOnRing: isOnRing, packetsMayWait: $0)
          }
        }
      }
    }
  }

  private func check<Finding>(
    _ rows: [Row<Finding>], in states: [State], _ step: (State, Finding) -> State.Step,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let findings = Dictionary(grouping: rows) { "\($0.finding)" }
    for (finding, rows) in findings {
      for state in states {
        let matching = rows.filter { $0.covers(state) }
        #expect(matching.count == 1, "\(state), \(finding)", sourceLocation: sourceLocation)
        for row in matching {
          #expect(
            Self.name(step(state, row.finding)) == row.step, "\(state), \(finding)", sourceLocation: sourceLocation)
        }
      }
    }
  }

  private static func name(_ step: State.Step) -> String {
    switch step {
    case .take: "take"
    case .lookAhead: "look ahead"
    case .deliver(to: let taker): "deliver to \(taker)"
    case .announce: "announce"
    case .report(let error): "report \(error)"
    case .hangUp(let what): "hang up: \(what)"
    case .dismissTask: "dismiss task"
    case .close: "close"
    case .finish: "finish"
    case .yield: "yield"
    case .rest(let result): "rest, \(result)"
    }
  }

  static let shortage = SystemError(call: "mmap", errno: 12)

  @Test("3.4 The short cut to the end of a turn leads where the long way does")
  func shortCut() {
    var count = 0
    for state in Self.allStates where state.taker == .handler {
      let isShort = State.onlyWaits(
        isOpen: state.phase == .open, isOnRing: state.isOnRing, packetsMayWait: state.packetsMayWait)
      guard isShort else { continue }
      count += 1
      #expect(Self.name(state.first) == "take", "\(state)")
      #expect(Self.name(state.afterTaking(.nothing)) == "rest, wait", "\(state)")
    }
    #expect(count == 2)
  }

  @Test("4.4 What is queued is taken before anything else, and close is due only once nobody posts")
  func first() {
    let rows: [Row<Bool>] = [
      Row(takers: [.handler, .task], finding: true, step: "take"),
      Row(takers: [.set], phases: [.open, .gone], finding: true, step: "look ahead"),
      Row(takers: [.set], phases: [.over], finding: true, step: "rest, idle"),
      Row(takers: [.nobody], phases: [.open], packetsMayWait: [false], finding: true, step: "rest, idle"),
      Row(takers: [.nobody], phases: [.open], packetsMayWait: [true], finding: true, step: "look ahead"),
      Row(takers: [.nobody], phases: [.over], finding: true, step: "rest, idle"),
      Row(takers: [.nobody], phases: [.gone], finding: true, step: "look ahead"),
    ]
    check(rows, in: Self.allStates) { state, _ in state.first }
  }

  @Test("4.4 A task that waits comes before the handler; without a message, the phase decides")
  func afterTaking() {
    let rows: [Row<Taken>] = [
      Row(takers: [.handler], finding: .message, step: "deliver to handler"),
      Row(takers: [.task], finding: .message, step: "deliver to task"),
      Row(finding: .failed(.outOfMemory), step: "report \(MessageError.outOfMemory)"),
      Row(finding: .violation("lie"), step: "hang up: lie"),
      Row(finding: .blocked(Self.shortage), step: "rest, blocked"),
      Row(finding: .unfinished, step: "yield"),
      Row(phases: [.open], isOnRing: [true], finding: .nothing, step: "rest, wait"),
      Row(phases: [.open], isOnRing: [false], finding: .nothing, step: "rest, idle"),
      Row(phases: [.gone], finding: .nothing, step: "look ahead"),
      Row(phases: [.over], finding: .nothing, step: "rest, idle"),
    ]
    check(rows, in: Self.allStates.filter { $0.taker == .handler || $0.taker == .task }) { $0.afterTaking($1) }
  }

  @Test(
    "4.4, 4.5, 4.6 Close comes after the last message, and after the last task that waits for one; without a handler it stays due"
  )
  func afterLooking() {
    let rows: [Row<ReceivingHalf.Sighting>] = [
      Row(takers: [.nobody], finding: .message, step: "rest, idle"),
      Row(takers: [.set], finding: .message, step: "announce"),
      Row(takers: [.handler, .task], finding: .message, step: "yield"),
      Row(finding: .violation("lie"), step: "hang up: lie"),
      Row(finding: .blocked, step: "rest, blocked"),
      Row(finding: .doorbells, step: "yield"),
      Row(finding: .unfinished, step: "yield"),
      Row(takers: [.task], finding: .nothing, step: "dismiss task"),
      Row(takers: [.nobody, .handler, .set], hasCloseHandler: [true], finding: .nothing, step: "close"),
      Row(takers: [.nobody, .handler, .set], hasCloseHandler: [false], finding: .nothing, step: "finish"),
    ]
    check(rows, in: Self.allStates.filter { $0.phase == .gone }) { $0.afterLooking($1) }
  }

  @Test("4.1 Whoever looks at ports that nobody has announced, while more may come, closes for nothing else")
  func afterLookingEarly() {
    let rows: [Row<ReceivingHalf.Sighting>] = [
      Row(finding: .message, step: "rest, idle"),
      Row(finding: .violation("lie"), step: "hang up: lie"),
      Row(finding: .blocked, step: "rest, blocked"),
      Row(finding: .doorbells, step: "yield"),
      Row(finding: .unfinished, step: "yield"),
      Row(finding: .nothing, step: "rest, idle"),
    ]
    check(rows, in: Self.allStates.filter { $0.phase == .open && $0.taker == .nobody }) { $0.afterLooking($1) }
  }

  @Test("14.1 As long as a set waits, the loop listens, and tells it of a message that it leaves where it is")
  func forSet() {
    let rows: [Row<ReceivingHalf.Sighting>] = [
      Row(finding: .message, step: "announce"),
      Row(finding: .violation("lie"), step: "hang up: lie"),
      Row(finding: .blocked, step: "rest, blocked"),
      Row(finding: .doorbells, step: "yield"),
      Row(finding: .unfinished, step: "yield"),
      Row(isOnRing: [true], finding: .nothing, step: "rest, wait"),
      Row(isOnRing: [false], finding: .nothing, step: "rest, idle"),
    ]
    check(rows, in: Self.allStates.filter { $0.phase == .open && $0.taker == .set }) { $0.afterLooking($1) }
  }
}
