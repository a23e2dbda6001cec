import CSupport
import CTestSupport
import Glibc
import TestSupport
import Testing

@Suite("Futex, membarrier, clock")
struct FutexTests {
  @Test("A waiter is woken through another mapping of the same memory, and counted")
  func wakeReachesOtherMapping() {
    let memory = TwiceMapped()
    let waiter = HelperThread { unsafe csupport_futex_wait(memory.word(1), 0, patienceNanoseconds) }
    #expect(eventually { unsafe csupport_futex_wake_all(memory.sameWord(1)) == 1 })
    #expect(waiter.result() == 0)
  }

  @Test("Every waiter is woken")
  func wakeReachesAll() {
    let memory = TwiceMapped()
    let first = HelperThread { unsafe csupport_futex_wait(memory.word(0), 0, patienceNanoseconds) }
    let second = HelperThread { unsafe csupport_futex_wait(memory.sameWord(0), 0, -1) }
    var woken: CInt = 0
    let wereBothWoken = eventually {
      unsafe woken += csupport_futex_wake_all(memory.word(0))
      return woken == 2
    }
    #expect(wereBothWoken)
    #expect(first.result() == 0)
    #expect(second.result() == 0)
  }

  @Test("A word that differs is not waited on")
  func differingWord() {
    let memory = TwiceMapped()
    #expect(unsafe csupport_futex_wait(memory.word(0), 1, -1) == -EAGAIN)
  }

  @Test("A wait ends at its time limit and not before", arguments: [0, 1, 20_000_000] as [Int64])
  func timeout(nanoseconds: Int64) {
    let memory = TwiceMapped()
    let start = csupport_monotonic_ns()
    #expect(unsafe csupport_futex_wait(memory.word(0), 0, nanoseconds) == -ETIMEDOUT)
    #expect(csupport_monotonic_ns() - start >= UInt64(nanoseconds))
  }

  @Test("Waking nobody is no error; a word outside of memory is")
  func wakeNobody() {
    let memory = TwiceMapped()
    #expect(unsafe csupport_futex_wake_all(memory.word(0)) == 0)
    #expect(unsafe csupport_futex_wait(UnsafeRawPointer(bitPattern: 4096), 0, 0) == -EFAULT)
  }

  /// Whether the kernel has the call that waits for two words, or a filter keeps it from the thread.
  static let refusals: [[Refusal]] = [[], [Refusal(.futex_waitv, EPERM)], [Refusal(.futex_waitv, ENOSYS)]]

  @Test("A wait for two words ends when either was changed and rung", arguments: refusals, [true, false])
  func either(_ refusals: [Refusal], _ isShared: Bool) async throws {
    let memory = TwiceMapped(), own = TwiceMapped()
    let ended = Flag()
    async let result = Refusal.during(refusals) {
      defer { ended.set() }
      return unsafe csupport_futex_wait_either(memory.word(1), 0, own.word(0), 0, patienceNanoseconds)
    }
    usleepBriefly(20_000)
    if isShared {
      try await eventually("a thread that sleeps") {
        unsafe csupport_futex_wake_all(memory.sameWord(1)) == 1 || ended.isSet
      }
    } else {
      unsafe own.word(0).storeBytes(of: 1, as: UInt32.self)
      _ = unsafe csupport_private_wake_all(own.word(0))
    }
    let outcome = try await result
    #expect(outcome == 0 || outcome == -EAGAIN)
  }

  @Test("A wait for two words does not begin if one differs, and ends at its time limit", arguments: refusals)
  func eitherDiffers(_ refusals: [Refusal]) async throws {
    let memory = TwiceMapped(), own = TwiceMapped()
    let results = try await Refusal.during(refusals) {
      let start = csupport_monotonic_ns()
      let late = unsafe csupport_futex_wait_either(memory.word(0), 0, own.word(0), 0, 70_000_000)
      return [
        unsafe csupport_futex_wait_either(memory.word(0), 1, own.word(0), 0, -1),
        unsafe csupport_futex_wait_either(memory.word(0), 0, own.word(0), 1, -1),
        late, csupport_monotonic_ns() - start >= 70_000_000 ? 0 : -1,
        unsafe csupport_futex_wait_either(memory.word(0), 0, own.word(0), 0, 0),
      ]
    }
    #expect(results == [-EAGAIN, -EAGAIN, -ETIMEDOUT, 0, -ETIMEDOUT])
  }

  @Test("Whoever is moved away from the shared word is woken by the private one", arguments: refusals)
  func moved(_ refusals: [Refusal]) async throws {
    let memory = TwiceMapped(), own = TwiceMapped()
    async let result = Refusal.during(refusals) {
      unsafe csupport_futex_wait_either(memory.word(0), 0, own.word(0), 0, patienceNanoseconds)
    }
    try await eventually("a thread that sleeps") {
      unsafe ctest_move_sleepers(memory.sameWord(0), memory.sameWord(1)) == 1
    }
    unsafe own.word(0).storeBytes(of: 1, as: UInt32.self)
    _ = unsafe csupport_private_wake_all(own.word(0))
    let outcome = try await result
    #expect(outcome == 0 || outcome == -EAGAIN)
  }

  @Test(
    "The asymmetric fence works once registered",
    .enabled(if: csupport_membarrier_is_available() == 1, "needs Linux 4.16"))
  func membarrier() async {
    await #expect(processExitsWith: .success) {
      #expect(csupport_membarrier_register() == 0)
      #expect(csupport_membarrier_global() == 0)
    }
  }
}
