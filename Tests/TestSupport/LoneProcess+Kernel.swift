import CTestSupport
import Glibc
import MessagePorts
import Synchronization

// What the kernel refuses, and what it is asked.

extension LoneProcess {
  static func performInKernel(_ experiment: String, _ parent: Connection) throws -> [String: Int]? {
    switch experiment {
    case "lockLimit": try lockLimit(parent)
    case "schedulingRefused": try schedulingRefused()
    case "callsOnUring": try callsOfLoop(.uring)
    case "callsOnEpoll": try callsOfLoop(.epoll)
    case "callsOfReceive": try callsOfReceive()
    case "callsOfReader": try callsOfReader()
    default: nil
    }
  }

  // MARK: Limits

  /// What becomes of channels that are to be locked where little may be.
  private static func lockLimit(_ parent: Connection) throws -> [String: Int] {
    var report: [String: Int] = [:]
    let far = FarProcess()
    let carrier = try far.open(.echo)
    let big = ChannelOptions(laneCapacityBytes: 1 << 20, residency: .locked)
    let arrivedOptions = ChannelOptions(laneCapacityBytes: 1 << 20)
    let travelling = try MessageChannel(options: arrivedOptions)
    try carrier.postMessage(bytes: [], transfer: [travelling.port2])
    let arrived = try carrier.receiveSoon().ports[0]
    // The default loop is there, ring and all.
    let result = ctest_become_nobody(64 << 10)
    guard result == 0 else { return ["result": Int(result)] }
    let channel = try MessageChannel(options: big)
    let before = Resources.now()
    var byteCounts: Set<Int> = []
    func limit(_ body: () throws(PortError) -> Void) -> Int {
      do throws(PortError) { try body() } catch {
        if case .lockLimitExceeded(let byteCount, let limit) = error {
          byteCounts.insert(byteCount)
          return limit
        }
        printNow("\(error)\n")
        return -1
      }
      return 0
    }
    func connectionLimit(_ error: any Error) -> Int {
      if case ConnectionError.lockLimitExceeded(let byteCount, let limit) = error {
        byteCounts.insert(byteCount)
        return limit
      }
      printNow("\(error)\n")
      return -1
    }
    report["post"] = limit { () throws(PortError) in try parent.postMessage("keep", transfer: [channel.port2]) }
    report["split"] = limit { () throws(PortError) in _ = try channel.port1.split() }
    try channel.port2.postMessage(bitwise: 5)
    report["portsKept"] = try !channel.port2.isDetached && channel.port1.receiveSoon().load(as: Int.self) == 5 ? 1 : 0
    do { _ = try WorkerProcess.spawn("/bin/true", options: big) } catch { report["spawn"] = connectionLimit(error) }
    // Its socket goes with the listener.
    do {
      let connected = Promise<Result<Connection, ConnectionError>>()
      let listener = try Listener(path: freshPath())
      Task(executorPreference: EventLoop.default) {
        do throws(ConnectionError) {
          connected.fulfil(.success(try await Connection.connect(path: listener.path, options: big)))
        } catch {
          connected.fulfil(.failure(error))
        }
      }
      if case .failure(let error) = try connected.wait() { report["connect"] = connectionLimit(error) }
      listener.close()
    }
    report["makeResident"] = limit { () throws(PortError) in try arrived.makeResident(.locked) }
    report["locked"] = SharedMapping.all(ofKilobytes: 2052).map(\.lockedKilobytes).reduce(0, +)
    try waitUntil("descriptors to close") { Resources.now().descriptors <= before.descriptors }
    report["descriptorsMore"] = max(0, Resources.now().descriptors - before.descriptors)
    report["mappingsMore"] = max(0, Resources.now().mappings - before.mappings)
    report["byteCountIsRight"] = byteCounts == [2052 << 10] ? 1 : 0
    try arrived.makeResident(.faultedIn)
    try arrived.postMessage(bytes: [7])
    report["faultedIn"] = try travelling.port1.receiveSoon().bytes == [7] ? 1 : 0
    let small = try MessageChannel(options: ChannelOptions(residency: .locked))
    try carrier.postMessage(bytes: [], transfer: [small.port2])
    return withExtendedLifetime((small, far)) {
      report["small"] = SharedMapping.all(ofKilobytes: 4).map(\.lockedKilobytes).max() ?? 0
      return report
    }
  }

  /// A loop whose thread is to be scheduled as this process may not have it.
  private static func schedulingRefused() throws -> [String: Int] {
    let result = ctest_become_nobody(64 << 10)
    guard result == 0 else { return ["result": Int(result)] }
    let before = Resources.now()
    var report: [String: Int] = [:]
    let refused: [(String, EventLoop.Scheduling)] = [
      ("fifo", .fifo(priority: 5)), ("roundRobin", .roundRobin(priority: 5)), ("normal", .normal(nice: -5)),
    ]
    for (name, scheduling) in refused {
      do throws(EventLoopError) {
        _ = try EventLoop(name: "refused", placement: EventLoop.Placement(processors: [0], scheduling: scheduling))
      } catch {
        report[name] = error == .schedulingNotPermitted(scheduling) ? 1 : 0
      }
    }
    // The thread is about to end when its maker hears of it.
    try waitUntil("threads to end") { Resources.now().threads <= before.threads }
    report["descriptorsMore"] = Resources.now().descriptors - before.descriptors
    let loop = try EventLoop(name: "nice", placement: EventLoop.Placement(scheduling: .normal(nice: 5)))
    let nice = Promise<Int>()
    Task(executorPreference: loop) { nice.fulfil(Int(ctest_thread_nice())) }
    report["nice"] = try nice.wait()
    return report
  }

  // MARK: System calls

  /// How long, in messages, it takes to be warm, and is counted then.
  private static let warmUp = 300, counted = 1000

  /// What a thread has counted of itself. It must not enter the kernel to tell.
  @safe
  private final class Tally: Sendable {
    let received = Atomic<Int>(0)
    let before = Atomic<Int>(-1)
    let calls = Atomic<Int>(-1)
    let last = Atomic<Int>(-1)
    let canCount = Atomic<Int>(0)
    private nonisolated(unsafe) var counter: OpaquePointer?

    /// One more message has come, on the thread in question.
    func note() {
      let number = received.load(ordering: .relaxed) + 1
      if number == 1 {
        unsafe counter = ctest_count_calls()
        canCount.store(unsafe counter == nil ? 0 : 1, ordering: .relaxed)
      }
      if let counter = unsafe counter {
        if number == LoneProcess.warmUp { before.store(unsafe ctest_calls(counter), ordering: .relaxed) }
        if number == LoneProcess.warmUp + LoneProcess.counted {
          calls.store(unsafe ctest_calls(counter) - before.load(ordering: .relaxed), ordering: .relaxed)
          last.store(Int(unsafe ctest_last_call(counter)), ordering: .relaxed)
        }
      }
      received.store(number, ordering: .releasing)
    }

    /// Posts one message after the other, with pauses in between that are long enough for any visit to the kernel.
    func drive(_ post: (Int) throws -> Void) throws -> [String: Int] {
      for number in 0..<LoneProcess.warmUp + LoneProcess.counted {
        try post(number)
        try waitUntil("message \(number)") { received.load(ordering: .acquiring) > number }
      }
      return [
        "canCount": canCount.load(ordering: .relaxed), "calls": calls.load(ordering: .relaxed),
        "last": last.load(ordering: .relaxed),
      ]
    }
  }

  private static func callsOfLoop(_ driver: EventLoop.Driver) throws -> [String: Int] {
    let loop = EventLoop(name: "spins", driver: driver, spinPolicy: .always)
    let puppet = try Puppet(in: FarProcess())
    puppet.port.setEventLoop(loop)
    let tally = Tally(), closed = Promise<Void>()
    puppet.port.onMessage = { _ in tally.note() }
    puppet.port.onClose = { _ in closed.fulfil() }
    var report = try tally.drive { try puppet.post($0..<$0 + 1) }
    report["isDriver"] = loop.driver == driver ? 1 : 0
    // It is not deaf.
    try puppet.close()
    try closed.wait()
    report["closed"] = 1
    return report
  }

  private static func callsOfReceive() throws -> [String: Int] {
    let puppet = try Puppet(in: FarProcess(), options: ChannelOptions(spinPolicy: .always))
    let tally = Tally()
    let thread = TestThread {
      do {
        while true {
          _ = try puppet.port.receive()
          tally.note()
        }
      } catch PortError.peerClosed(_) {}
    }
    var report = try tally.drive { try puppet.post($0..<$0 + 1) }
    try puppet.close()
    try thread.join()
    report["closed"] = 1
    return report
  }

  private static func callsOfReader() throws -> [String: Int] {
    let puppet = try Puppet(
      in: FarProcess(), options: ChannelOptions(laneCapacityBytes: 64 << 10, spinPolicy: .always))
    let halves = try puppet.port.split()
    let tally = Tally()
    let thread = TestThread {
      var reader = halves.takeReader()
      do {
        while true {
          try reader.read { _ in }
          tally.note()
        }
      } catch PortError.peerClosed(_) {}
    }
    var report = try tally.drive { try puppet.post($0..<$0 + 1) }
    try puppet.close()
    try thread.join()
    report["closed"] = 1
    return report
  }
}
