import CSupport
import CTestSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

@Suite("5.3 Loops with a place of their own", .ownThread, .timeLimit(.minutes(3)))
struct LoopPlacementTests {
  /// The processors that the calling thread may run on, as the kernel writes them.
  private static func allowed(_ task: String = "thread-self") -> String {
    let line = lines(of: "/proc/\(task)/status").first { $0.hasPrefix("Cpus_allowed_list:") } ?? ""
    return line.split(separator: "\t").last.map(String.init) ?? ""
  }

  /// The last processor that this thread may use.
  private static let someProcessor =
    allowed().split { !$0.isNumber }.last.flatMap { Int($0) } ?? 0

  private func on<Value: Sendable>(_ loop: EventLoop, _ body: @escaping @Sendable () -> Value) throws -> Value {
    let value = Promise<Value>()
    Task(executorPreference: loop) { value.fulfil(body()) }
    return try value.wait()
  }

  @Test("5.3 A loop's thread runs where it is to run, from its first step on, and its handlers with it")
  func processors() throws {
    let loop = try EventLoop(
      name: "placed", placement: EventLoop.Placement(processors: [Self.someProcessor]))
    defer { loop.stop() }
    #expect(loop.placement == EventLoop.Placement(processors: [Self.someProcessor]))
    let puppet = try Puppet(.anotherProcess)
    puppet.port.setEventLoop(loop)
    let places = Collected<String>()
    puppet.port.onMessage = { _ in places.append(Self.allowed()) }
    try puppet.post(0..<3)
    #expect(try places.wait(for: 3) == Array(repeating: "\(Self.someProcessor)", count: 3))
  }

  @Test(
    "5.3 What the library starts on a placed loop's thread is not confined to its place",
    .enabled(if: csupport_usable_processors() > 1, "there is one processor"))
  func whatItStarts() throws {
    let everywhere = Self.allowed()
    let loop = try EventLoop(
      name: "placed",
      placement: EventLoop.Placement(
        processors: [Self.someProcessor], scheduling: Self.mayBeRealTime ? .fifo(priority: 1) : nil))
    defer { loop.stop() }
    let found = try on(loop) { () -> [String] in
      let other = EventLoop(name: "started there")
      defer { other.stop() }
      let places = Collected<String>()
      Task(executorPreference: other) {
        places.append(Self.allowed())
        places.append("\(ctest_thread_policy())")
      }
      guard let worker = try? PeerProcess.spawn("far"), let ofOther = try? places.wait(for: 2) else { return [] }
      defer { worker.kill() }
      return [Self.allowed(), Self.allowed("\(worker.processIdentifier)")] + ofOther
    }
    #expect(found == ["\(Self.someProcessor)", everywhere, everywhere, "\(SCHED_OTHER)"])
  }

  @Test("5.3 A loop's thread is scheduled as it is to be")
  func scheduling() throws {
    let loop = try EventLoop(name: "batch", placement: EventLoop.Placement(scheduling: .batch(nice: 7)))
    defer { loop.stop() }
    // SCHED_BATCH, which Swift does not see.
    #expect(try on(loop) { [ctest_thread_policy(), ctest_thread_nice()] } == [3, 7])
    let nice = try EventLoop(name: "nice", placement: EventLoop.Placement(scheduling: .normal(nice: 3)))
    defer { nice.stop() }
    #expect(try on(nice) { [ctest_thread_policy(), ctest_thread_nice()] } == [CInt(SCHED_OTHER), 3])
  }

  @Test("5.3 A loop's thread may go before all others", .enabled(if: mayBeRealTime, "this process may not have that"))
  func realTime() throws {
    for (scheduling, policy) in [
      (EventLoop.Scheduling.fifo(priority: 3), SCHED_FIFO), (.roundRobin(priority: 4), SCHED_RR),
    ] {
      let loop = try EventLoop(name: "first", placement: EventLoop.Placement(scheduling: scheduling))
      defer { loop.stop() }
      #expect(
        try on(loop) { [ctest_thread_policy(), ctest_thread_priority()] } == [
          CInt(policy), policy == SCHED_FIFO ? 3 : 4,
        ])
    }
  }

  private static let mayBeRealTime: Bool = {
    guard let loop = try? EventLoop(name: "probe", placement: EventLoop.Placement(scheduling: .fifo(priority: 1)))
    else { return false }
    loop.stop()
    return true
  }()

  @Test("2.2 Processors that there are not are named by a typed error, and there is no thread")
  func noSuchProcessors() throws {
    func refused(_ processors: Set<Int>) -> EventLoopError? {
      do throws(EventLoopError) {
        let loop = try EventLoop(name: "nowhere", placement: EventLoop.Placement(processors: processors))
        loop.stop()
        return nil
      } catch {
        return error
      }
    }
    #expect(refused([4000]) == .processorsUnavailable([4000]))
    // The kernel itself would take those that there are.
    #expect(refused([Self.someProcessor, 4000, 1 << 40, -1]) == .processorsUnavailable([4000, 1 << 40, -1]))
    #expect(refused([]) == .invalidOption("processors must not be empty"))
    #expect(refused([Self.someProcessor]) == nil)
    try waitUntil("the threads to be gone") {
      !entries(of: "/proc/self/task").contains { text(of: "/proc/self/task/\($0)/comm") == "nowhere\n" }
    }
  }

  @Test("2.2 What is outside its range is a typed error")
  func ranges() {
    func refused(_ scheduling: EventLoop.Scheduling) -> Bool {
      do throws(EventLoopError) {
        _ = try EventLoop(name: "never", placement: EventLoop.Placement(scheduling: scheduling))
        return false
      } catch {
        if case .invalidOption = error { return true }
        return false
      }
    }
    for nice in [-21, 20, .max] { #expect(refused(.normal(nice: nice)) && refused(.batch(nice: nice))) }
    for priority in [0, 100, .min] {
      #expect(refused(.fifo(priority: priority)) && refused(.roundRobin(priority: priority)))
    }
  }

  @Test("2.2 Scheduling that is not permitted is a typed error that names it, and nothing was started")
  func notPermitted() throws {
    let report = try LoneProcess.run("schedulingRefused")
    #expect(report == ["fifo": 1, "roundRobin": 1, "normal": 1, "descriptorsMore": 0, "nice": 5])
  }
}
