import TestSupport
import Testing

@testable import MessagePorts

@Suite("Timers of a loop")
struct LoopTimersTests {
  @Test(
    "Timers come in the order of their times, and what is cancelled leaves nothing",
    arguments: 1...20 as ClosedRange<UInt64>)
  func order(seed: UInt64) {
    var numbers = Numbers(state: seed)
    var timers = LoopTimers()
    let fired = Collected<UInt64>()
    // By number, which is the order of adding.
    var pending: [UInt64: (deadline: UInt64, id: LoopTimers.ID)] = [:]
    var now: UInt64 = 0
    for number in 0..<500 as Range<UInt64> {
      switch numbers.next() % 4 {
      case 0, 1:
        let deadline = now + numbers.next() % 50
        pending[number] = (deadline, timers.add(deadline: deadline) { fired.append(number) })
      case 2:
        guard let victim = pending.keys.sorted().randomElement(using: &numbers) else { continue }
        let id = pending.removeValue(forKey: victim)!.id
        #expect(timers.cancel(id) != nil)
        #expect(timers.cancel(id) == nil)
      default:
        now += numbers.next() % 20
        let before = fired.count
        for body in timers.takeDue(now: now) { body() }
        let due = pending.filter { $0.value.deadline <= now }
          .sorted { ($0.value.deadline, $0.key) < ($1.value.deadline, $1.key) }
        #expect(Array(fired.all[before...]) == due.map(\.key))
        for (number, _) in due { pending[number] = nil }
      }
      #expect(timers.count == pending.count)
      #expect(timers.nextDeadline == pending.values.map(\.deadline).min())
    }
  }

  @Test("13.7 A time beyond the end of the clock is never reached")
  func endOfClock() throws {
    #expect(EventLoop.deadline(in: .max) == .max)
    let loop = EventLoop(name: "late")
    defer { loop.stop() }
    let fired = Collected<String>()
    loop.after(nanoseconds: .max) { fired.append("at the end of time") }
    loop.after(nanoseconds: .max - 1) { fired.append("just before") }
    let soon = Promise<Void>()
    loop.after(nanoseconds: 1_000_000) { soon.fulfil() }
    try soon.wait()
    try settle(loop)
    #expect(fired.count == 0)
  }
}

/// Always the same numbers for a seed (xorshift).
private struct Numbers: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }
}
