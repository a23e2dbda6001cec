import CSupport
import Glibc
import Testing

private let allBits = CInt(CSUPPORT_URING_SETUP | CSUPPORT_URING_FUTEX_WAIT | CSUPPORT_URING_POLL)

/// Every test runs on one thread from its start to its end, because that thread owns its ring.
@Suite("io_uring", .enabled(if: csupport_uring_probe() == allBits, "needs Linux 6.7 and the right to use io_uring"))
struct UringTests {
  /// Calls `body` with a new ring.
  func withRing(entries: UInt32 = 64, _ body: (OpaquePointer) -> Void) {
    var ring: OpaquePointer?
    let result = unsafe csupport_uring_create(entries, &ring)
    #expect(result == 0)
    guard let ring = unsafe ring else { return }
    unsafe body(ring)
    unsafe csupport_uring_destroy(ring)
  }

  /// Completions of one call, as (user data, result).
  func enter(_ ring: OpaquePointer, timeout: Int64?, capacity: Int = 64) -> [UInt64: Int32] {
    var completions = [csupport_completion](repeating: csupport_completion(), count: capacity)
    let count = unsafe csupport_uring_enter(ring, timeout != nil, timeout ?? 0, &completions, CInt(capacity))
    #expect(count >= 0)
    return Dictionary(uniqueKeysWithValues: completions.prefix(max(0, Int(count))).map { ($0.user_data, $0.result) })
  }

  @Test("The probe finds everything, and leaves nothing behind")
  func probeLeavesNothing() async {
    await #expect(processExitsWith: .success) {
      let isClean = leavesNoDescriptor { #expect(csupport_uring_probe() == allBits) }
      #expect(isClean)
    }
  }

  @Test("A ring leaves nothing behind, nor does what it waited for")
  func ringLeavesNothing() async {
    await #expect(processExitsWith: .success) {
      let counter = csupport_eventfd_create()
      let memory = TwiceMapped()
      let isClean = leavesNoDescriptor {
        var ring: OpaquePointer?
        #expect(unsafe csupport_uring_create(8, &ring) == 0)
        #expect(unsafe csupport_uring_poll(ring, 1, counter, UInt32(CSUPPORT_EVENT_IN)) == 0)
        #expect(unsafe csupport_uring_futex_wait(ring, 2, memory.word(0), 0) == 0)
        var completion = csupport_completion()
        #expect(unsafe csupport_uring_enter(ring, false, 0, &completion, 1) == 0)
        unsafe csupport_uring_destroy(ring)
      }
      #expect(isClean)
    }
  }

  @Test("The probe reports what keeps it from making a ring")
  func probeFails() async {
    await #expect(processExitsWith: .success) {
      setLimit(RLIMIT_NOFILE, 0)
      #expect(csupport_uring_probe() == -EMFILE)
      var ring = unsafe OpaquePointer(bitPattern: 8)
      #expect(unsafe csupport_uring_create(8, &ring) == -EMFILE)
      #expect(unsafe ring == nil)
      setLimit(RLIMIT_NOFILE, 1024)  // sanitizers want some when the process ends
    }
  }

  @Test("A futex wait completes with 0 when woken through another mapping")
  func futexWoken() {
    let memory = TwiceMapped()
    unsafe withRing { ring in
      #expect(unsafe csupport_uring_futex_wait(ring, 7, memory.word(0), 0) == 0)
      #expect(unsafe enter(ring, timeout: nil).isEmpty)
      #expect(unsafe csupport_futex_wake_all(memory.sameWord(0)) == 1)
      #expect(unsafe enter(ring, timeout: patienceNanoseconds) == [7: 0])
      #expect(unsafe csupport_futex_wake_all(memory.sameWord(0)) == 0)
    }
  }

  @Test("A waiting ring is woken by another thread", arguments: [-1, patienceNanoseconds])
  func futexWokenWhileWaiting(timeout: Int64) {
    let memory = TwiceMapped()
    let waiter = HelperThread {
      var result: [UInt64: Int32] = [:]
      unsafe withRing { ring in
        #expect(unsafe csupport_uring_futex_wait(ring, 7, memory.word(0), 0) == 0)
        unsafe result = enter(ring, timeout: timeout)
      }
      return result
    }
    #expect(eventually { unsafe csupport_futex_wake_all(memory.sameWord(0)) == 1 })
    #expect(waiter.result() == [7: 0])
  }

  @Test("A completion that is there without waiting is seen without waiting")
  func pollingSeesCompletions() {
    let memory = TwiceMapped()
    unsafe withRing(entries: 256) { ring in
      for index in 0..<100 {
        #expect(unsafe csupport_uring_futex_wait(ring, UInt64(index), memory.word(index), 0) == 0)
      }
      #expect(unsafe enter(ring, timeout: nil).isEmpty)
      for index in 0..<100 {
        #expect(unsafe csupport_futex_wake_all(memory.sameWord(index)) == 1)
      }
      // The kernel hands them out in portions; an empty one must mean that there are no more.
      var seen: Set<UInt64> = []
      while true {
        let portion = unsafe enter(ring, timeout: nil)
        if portion.isEmpty { break }
        seen.formUnion(portion.keys)
      }
      #expect(seen.count == 100)
    }
  }

  @Test("A futex wait on a word that differs completes with EAGAIN")
  func futexDiffers() {
    let memory = TwiceMapped()
    unsafe withRing { ring in
      #expect(unsafe csupport_uring_futex_wait(ring, 8, memory.word(0), 1) == 0)
      #expect(unsafe enter(ring, timeout: -1) == [8: -EAGAIN])
    }
  }

  @Test("A cancelled futex wait completes with ECANCELED and takes no wake-up")
  func futexCancelled() {
    let memory = TwiceMapped()
    unsafe withRing { ring in
      #expect(unsafe csupport_uring_futex_wait(ring, 1, memory.word(0), 0) == 0)
      #expect(unsafe enter(ring, timeout: nil).isEmpty)
      #expect(unsafe csupport_uring_cancel(ring, 2, 1) == 0)
      var completions: [UInt64: Int32] = [:]
      let areBothThere = eventually {
        unsafe completions.merge(enter(ring, timeout: 1_000_000)) { $1 }
        return completions.count == 2
      }
      #expect(areBothThere)
      // The kernel counts what it cancelled, or says 0.
      #expect(completions[1] == -ECANCELED)
      #expect(completions[2].map { $0 >= 0 } == true)
      #expect(unsafe csupport_futex_wake_all(memory.word(0)) == 0)

      #expect(unsafe csupport_uring_cancel(ring, 3, 1) == 0)
      #expect(unsafe enter(ring, timeout: patienceNanoseconds) == [3: -ENOENT])
    }
  }

  @Test("10,000 futex waits at once, more than fit any queue: each completes exactly once")
  func tenThousand() {
    let count = 10_000
    let memory = TwiceMapped(bytes: 4 * 16384)
    unsafe withRing(entries: 256) { ring in
      for index in 0..<count {
        #expect(unsafe csupport_uring_futex_wait(ring, UInt64(index), memory.word(index), 0) == 0)
      }
      #expect(unsafe enter(ring, timeout: nil).isEmpty)
      for index in 0..<count {
        #expect(unsafe csupport_futex_wake_all(memory.sameWord(index)) == 1)
      }
      var seen: Set<UInt64> = []
      var areAllWoken = true
      while true {
        let completions = unsafe enter(ring, timeout: 50_000_000, capacity: 7)
        if completions.isEmpty { break }
        areAllWoken = areAllWoken && completions.values.allSatisfy { $0 == 0 }
        #expect(seen.isDisjoint(with: completions.keys))
        seen.formUnion(completions.keys)
      }
      #expect(areAllWoken)
      #expect(seen.count == count)
    }
  }

  @Test("Completions that overflow the completion queue come later")
  func overflow() {
    let count = 10_000
    let memory = TwiceMapped()
    unsafe withRing(entries: 256) { ring in
      // These complete while they are being submitted, and nobody takes any completion meanwhile.
      for index in 0..<count {
        #expect(unsafe csupport_uring_futex_wait(ring, UInt64(index), memory.word(0), 1) == 0)
      }
      var seen: Set<UInt64> = []
      while true {
        let completions = unsafe enter(ring, timeout: nil, capacity: 1000)
        if completions.isEmpty { break }
        seen.formUnion(completions.keys)
      }
      #expect(seen.count == count)
    }
  }

  @Test("Destroying a ring ends its waits at once")
  func destroyEndsWaits() {
    let memory = TwiceMapped()
    unsafe withRing { ring in
      for index in 0..<100 {
        #expect(unsafe csupport_uring_futex_wait(ring, UInt64(index), memory.word(index), 0) == 0)
      }
      #expect(unsafe enter(ring, timeout: nil).isEmpty)
    }
    for index in 0..<100 {
      #expect(unsafe csupport_futex_wake_all(memory.word(index)) == 0)
    }
  }

  @Test("Destroying a ring lets go of the sockets it polled: closing them is a hang-up")
  func destroyEndsPolls() {
    let pairs = (0..<100).map { _ in makePair() }
    defer { closeAll(pairs.map(\.1)) }
    unsafe withRing(entries: 128) { ring in
      for (polled, _) in pairs {
        #expect(unsafe csupport_uring_poll(ring, 1, polled, UInt32(CSUPPORT_EVENT_IN)) == 0)
      }
      #expect(unsafe enter(ring, timeout: nil).isEmpty)
    }
    closeAll(pairs.map(\.0))
    // Eventually, because a child that another test is starting may have copies until its exec.
    #expect(eventually { pairs.allSatisfy { csupport_socket_is_hung_up($0.1) == 1 } })
  }

  @Test("A wait ends at its time limit and not before", arguments: [0, 1, 20_000_000] as [Int64])
  func timeout(nanoseconds: Int64) {
    let memory = TwiceMapped()
    unsafe withRing { ring in
      for round in 0..<2 {  // with something to submit, and without
        if round == 0 { #expect(unsafe csupport_uring_futex_wait(ring, 1, memory.word(0), 0) == 0) }
        let start = csupport_monotonic_ns()
        #expect(unsafe enter(ring, timeout: nanoseconds).isEmpty)
        #expect(csupport_monotonic_ns() - start >= UInt64(nanoseconds))
      }
    }
  }

  @Test("A poll completes with the events: readable, then hung up")
  func poll() {
    var (first, second): (CInt, CInt) = (-1, -1)
    #expect(unsafe csupport_socket_pair(&first, &second) == 0)
    defer { _ = csupport_close(first) }
    unsafe withRing { ring in
      #expect(unsafe csupport_uring_poll(ring, 1, first, UInt32(CSUPPORT_EVENT_IN)) == 0)
      #expect(unsafe enter(ring, timeout: nil).isEmpty)
      #expect(unsafe csupport_send_packet(second, [1], 1, nil, 0) == 1)
      #expect(unsafe enter(ring, timeout: patienceNanoseconds) == [1: Int32(CSUPPORT_EVENT_IN)])

      #expect(unsafe csupport_uring_poll(ring, 2, first, 0) == 0)
      #expect(unsafe enter(ring, timeout: nil).isEmpty)
      _ = csupport_close(second)
      let completions = unsafe enter(ring, timeout: patienceNanoseconds)
      #expect(completions[2].map { $0 & Int32(CSUPPORT_EVENT_HUP) != 0 } == true)
    }
  }

  @Test("A poll of a descriptor that is none completes with EBADF")
  func pollNothing() {
    unsafe withRing { ring in
      #expect(unsafe csupport_uring_poll(ring, 1, -1, UInt32(CSUPPORT_EVENT_IN)) == 0)
      #expect(unsafe enter(ring, timeout: patienceNanoseconds) == [1: -EBADF])
    }
  }

  @Test("A thread that does not own the ring is refused")
  func otherThread() {
    var pointer: OpaquePointer?
    #expect(unsafe csupport_uring_create(8, &pointer) == 0)
    guard let address = unsafe pointer.map({ UInt(bitPattern: $0) }) else { return }
    let memory = TwiceMapped()
    let stranger = HelperThread {
      let ring = unsafe OpaquePointer(bitPattern: address)
      unsafe csupport_uring_futex_wait(ring, 1, memory.word(0), 1)
      var completion = csupport_completion()
      let result = unsafe csupport_uring_enter(ring, false, 0, &completion, 1)
      unsafe csupport_uring_destroy(ring)
      return result
    }
    #expect(stranger.result() == -EEXIST)
  }
}
