import CSupport
import Glibc
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
