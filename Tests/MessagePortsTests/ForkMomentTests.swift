import CTestSupport
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import MessagePorts

/// Each forks in a process of its own, in which no other tests run.
@Suite(
  "13.2 A fork in the midst of things", .serialized, .timeLimit(.minutes(5)),
  .enabled(if: ForkedChild.isAskedFor, "runs alone: see scripts/test.sh"))
struct ForkMomentTests {
  @Test("13.2 A lock that another thread has is free in the child, and its threads can wait for each other")
  func locks() async {
    await #expect(processExitsWith: .success) {
      let guarded = Guarded(), isHeld = SharedNumber(), mayEnd = SharedNumber()
      let ended = SharedNumber()
      startThread {
        guarded.lock.withLock { _ in
          guarded.perProcess.withLock { value in
            value = 77
            isHeld.set(1)
            while mayEnd.value == 0 { usleep(100) }
          }
        }
        ended.add(1)
      }
      try waitUntil("the locks to be held") { isHeld.value == 1 }
      let child = try ForkedChild { checks in
        checks.expect(guarded.perProcess.withLock { $0 } == 5, "a new value")
        for _ in 0..<4 {
          startThread {
            for _ in 0..<20_000 { guarded.lock.withLock { $0 += 1 } }
            ended.add(1)
          }
        }
        try waitUntil("the child's threads") { ended.value == 4 }
        checks.expect(guarded.lock.withLock { $0 } == 80_000, "all additions")
        guarded.perProcess.withLock { $0 = 6 }
        checks.expect(guarded.perProcess.withLock { $0 } == 6, "a value that stays")
      }
      child.expectSuccess()
      mayEnd.set(1)
      try waitUntil("the thread") { ended.value == 1 }
      #expect(guarded.perProcess.withLock { $0 } == 77)
    }
  }

  private final class Guarded: Sendable {
    let lock = Lock(0)
    let perProcess = PerProcess { 5 }
  }

  @Test("13.2 A process forks while four of its threads post and transfer: child and parent go on")
  func busyThreads() async {
    await #expect(processExitsWith: .success) {
      let far = FarProcess()
      let mayEnd = SharedNumber(), posted = SharedNumber(), wrong = SharedNumber()
      let shared = try far.open(.echo), local = try MessageChannel()
      let received = Atomic<Int>(0)
      local.port2.onMessage = { _ in received.wrappingAdd(1, ordering: .relaxed) }
      let ended = SharedNumber()
      for index in 0..<4 {
        startThread {
          defer { ended.add(1) }
          do {
            while mayEnd.value == 0 {
              switch index {
              case 0, 1:
                try local.port1.postMessage(bitwise: 1)
                posted.add(1)
              case 2:
                let carried = try MessageChannel()
                try local.port1.postMessage(bitwise: 1, transfer: [carried.port1])
                posted.add(1)
              default:
                try shared.postMessage(bitwise: 5)
                if try shared.receiveSoon().load(as: Int.self) != 5 { wrong.add(1) }
              }
            }
          } catch {
            print("a thread of the parent's: \(error)")
            wrong.add(1)
          }
        }
      }
      // Whatever Swift's runtime makes once, it has made by then; what it has locked meanwhile stays so in a child.
      try waitUntil("many messages") { posted.value > 2000 }
      for _ in 0..<30 {
        let child = try ForkedChild(isAmidOthers: true) { checks in
          checks.expectClosed("post") { () throws(PortError) in try local.port1.postMessage(bitwise: 1) }
          checks.expectClosed("post to another") { () throws(PortError) in try shared.postMessage(bitwise: 1) }
          checks.expectClosed("receive") { () throws(PortError) in _ = try shared.receive() }
          let channel = try MessageChannel(), carried = try MessageChannel()
          let count = SharedNumber()
          channel.port2.onMessage = { _ in count.add(1) }
          for _ in 0..<100 { try channel.port1.postMessage(bitwise: 1) }
          try channel.port1.postMessage(bitwise: 1, transfer: [carried.port1])
          try waitUntil("messages") { count.value == 101 }
        }
        child.expectSuccess()
      }
      mayEnd.set(1)
      try waitUntil("the threads") { ended.value == 4 }
      try waitUntil("all messages") { received.load(ordering: .relaxed) == posted.value }
      #expect(wrong.value == 0)
    }
  }

  @Test("13.2 A handler that forks: its child ends with the handler, as by exit(0), and the parent gets all messages")
  func handlers() async {
    await #expect(processExitsWith: .success) {
      let parent = getpid()
      let calls = CountAcrossFork(), children = Collected<pid_t>(), received = Collected<Int>()
      let channel = try MessageChannel()
      for number in 0..<10 { try channel.port1.postMessage(bitwise: number) }
      channel.port2.onMessage = { [weak port = channel.port2] event in
        let number = (try? event.load(as: Int.self)) ?? -1
        if getpid() != parent {
          calls.add(1)
          return
        }
        if number == 3 {
          let child = ForkedChild.fork()
          if child == 0 {
            // Here and now, it is a child as any other.
            guard let port, port.isClosed, let own = try? MessageChannel() else { _exit(1) }
            guard (try? own.port1.postMessage(bitwise: 1)) != nil, (try? own.port2.receive()) != nil else { _exit(2) }
            return
          }
          children.append(child)
        }
        received.append(number)
      }
      #expect(try await received.wait(for: 10) == Array(0..<10))
      let child = try await children.wait(for: 1)[0]
      #expect(ForkedChild.wait(for: child) == 0)
      #expect(calls.value == 0)
    }
  }

  @Test("13.2 A task on a loop, or a close handler, that forks: the same")
  func tasks() async {
    await #expect(processExitsWith: .success) {
      let children = Collected<pid_t>()
      let loop = EventLoop(name: "forks")
      Task(executorPreference: loop) { children.append(ForkedChild.fork()) }
      let channel = try MessageChannel(loop: loop)
      channel.port2.onClose = { _ in children.append(ForkedChild.fork()) }
      channel.port1.close()
      for child in try await children.wait(for: 2) { #expect(child > 0 && ForkedChild.wait(for: child) == 0) }
      // The parent's loop goes on.
      let next = try MessageChannel(loop: loop), received = Collected<Int>()
      next.port2.onMessage = { _ in received.append(1) }
      try next.port1.postMessage(bitwise: 1)
      try await received.wait(for: 1)
    }
  }

  @Test("13.2 A value that forks while it is encoded is posted once, by the parent")
  func encoding() async {
    await #expect(processExitsWith: .success) {
      let channel = try MessageChannel()
      let value = ForkingValue()
      let result = Result { () throws(PortError) in try channel.port1.postMessage(value) }
      if value.child.value == 0 {
        if case .failure(.closed) = result { _exit(0) }
        _exit(1)
      }
      #expect(throws: Never.self) { try result.get() }
      #expect(ForkedChild.wait(for: pid_t(value.child.value)) == 0)
      #expect(try channel.port2.receiveSoon().decode(Int.self) == 3)
      #expect(channel.port2.queuedByteCount == 0)
    }
  }

  private struct ForkingValue: Encodable {
    let child = SharedNumber()
    func encode(to encoder: any Encoder) throws {
      child.set(Int(ForkedChild.fork()))
      var container = encoder.singleValueContainer()
      try container.encode(3)
    }
  }

  @Test("13.2 Exit handlers of a child that uses its own ports end as any process's do")
  func exits() async {
    await #expect(processExitsWith: .success) {
      let channel = try MessageChannel()
      let received = Collected<Int>()
      channel.port2.onMessage = { _ in received.append(1) }
      try channel.port1.postMessage(bitwise: 1)
      try await received.wait(for: 1)
      let pid = ForkedChild.fork()
      if pid == 0 {
        let own = try MessageChannel()
        let count = SharedNumber()
        own.port2.onMessage = { _ in count.add(1) }
        startThread { while (try? own.port1.postMessage(bitwise: 1)) != nil {} }
        try waitUntil("messages") { count.value > 0 }
        exit(0)
      }
      #expect(ForkedChild.wait(for: pid) == 0)
    }
  }
}

/// A number in memory that parent and child share.
@safe
private final class CountAcrossFork: @unchecked Sendable {  // an atomic word at a fixed address
  private let word: UnsafeMutablePointer<Atomic<Int>>

  init() {
    let page = unsafe mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)!
    unsafe word = page.assumingMemoryBound(to: Atomic<Int>.self)
  }

  var value: Int { unsafe word.pointee.load(ordering: .relaxed) }
  func add(_ count: Int) { unsafe word.pointee.wrappingAdd(count, ordering: .relaxed) }
}
