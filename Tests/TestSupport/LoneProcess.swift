import CSupport
import Glibc
import MessagePorts
import Synchronization

/// A `TestPeer` that does one thing by itself and reports numbers: for what cannot be measured in a process in which
/// other tests run.
public enum LoneProcess {
  /// Plays `experiment` in a new process, and returns what it reports.
  public static func run(_ experiment: String, within limit: Duration = .seconds(90)) throws -> [String: Int] {
    try run("lone", [experiment], within: limit)
  }

  /// The same for any role that reports numbers; none if the process ends without.
  public static func run(_ role: String, _ arguments: [String], within limit: Duration) throws -> [String: Int] {
    let worker = try PeerProcess.spawn(role, arguments)
    let report = Promise<[String: Int]>()
    worker.connection.onClose = { reason in
      print("\(role) \(arguments): \(reason)")
      report.fulfil([:])
    }
    worker.connection.on("keep") { event in event.ports.forEach(Kept.keep) }
    worker.connection.on("report") { event in
      let pairs = String(decoding: event.bytes, as: UTF8.self).split(separator: " ").map { $0.split(separator: "=") }
      report.fulfil(Dictionary(uniqueKeysWithValues: pairs.map { (String($0[0]), Int($0[1])!) }))
    }
    defer { worker.connection.close() }
    return try report.wait(within: limit, "report of \(role) \(arguments)")
  }

  /// What `TestPeer` does, on its main thread, until its parent closes the connection.
  public static func play(_ experiment: String, _ parent: Connection) throws -> Never {
    try report(try perform(experiment, parent), to: parent)
    while true { pause() }
  }

  public static func report(_ report: [String: Int], to parent: Connection) throws {
    let text = report.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
    try parent.postMessage("report", bytes: Array(text.utf8))
  }

  private static func perform(_ experiment: String, _ parent: Connection) throws -> [String: Int] {
    switch experiment {
    case "channels": try channels()
    case "descriptors": try descriptors(parent)
    case "waitingPorts": try waitingPorts()
    case "noRing": try noRing()
    case "errorAfterClose": try errorAfterClose()
    case "idle": try idle(parent)
    case "threads": try threads(parent)
    case "pingPong": try pingPong()
    default: try performInKernel(experiment, parent) ?? [:]
    }
  }

  // MARK: Experiments

  private static func channels() throws -> [String: Int] {
    // The default loop serves the connection; let it be there, ring and all.
    let first = try MessageChannel()
    first.port2.onMessage = { [weak port = first.port2] event in try? port?.postMessage(bitwise: 1) }
    try first.port1.postMessage(bitwise: 1)
    _ = try first.port1.receiveSoon()
    let before = (try countEntries("/proc/self/fd"), try countEntries("/proc/self/task"))
    let channels = try (0..<10_000).map { _ in try MessageChannel() }
    for channel in channels { try channel.port1.postMessage(bitwise: 1) }
    let after = (try countEntries("/proc/self/fd"), try countEntries("/proc/self/task"))
    return withExtendedLifetime(channels) { ["descriptors": after.0 - before.0, "threads": after.1 - before.1] }
  }

  /// Lets the process run out of descriptors, and finds out what that means to ports.
  private static func descriptors(_ parent: Connection) throws -> [String: Int] {
    let local = try MessageChannel(), listed = try MessageChannel()
    let received = Collected<Int>()
    local.port2.onMessage = { event in received.append((try? event.load(as: Int.self)) ?? -1) }
    var report: [String: Int] = [:]
    try withoutDescriptors {
      do {
        try parent.postMessage("keep", transfer: [listed.port1])
      } catch PortError.system(let error) {
        report["errno"] = Int(error.errno)
      }
      try listed.port2.postMessage(bitwise: 5)
      let isKept = try !listed.port1.isDetached && listed.port1.receiveSoon().load(as: Int.self) == 5
      report["portsKept"] = isKept ? 1 : 0
      for number in 0..<1000 { try local.port1.postMessage(bitwise: number) }
      report["postsAfterwards"] = try received.wait(for: 1000) == Array(0..<1000) ? 1000 : 0
    }
    try parent.postMessage("keep", transfer: [listed.port1])
    report["transferAfterwards"] = listed.port1.isDetached ? 1 : 0
    return report
  }

  /// Receives messages whose ports it has no descriptors for, at first, among others.
  private static func waitingPorts() throws -> [String: Int] {
    var report: [String: Int] = [:]
    for way in ["ToHandler", "ByHand", "ToTask"] {
      let puppet = try Puppet(in: FarProcess())
      for number in 0..<4 {
        try puppet.post(number..<number + 1)
        if number < 3 { try puppet.postPorts(2) }
      }
      let errors = Collected<MessageError>(), messages = Collected<Int>()
      @Sendable func note(_ event: MessageEvent) {
        messages.append(event.ports.isEmpty ? (try? event.load(as: Int.self)) ?? -1 : -event.ports.count)
      }
      puppet.port.onMessageError = { errors.append($0) }
      try withoutDescriptors {
        if way == "ToHandler" {
          puppet.port.onMessage = { note($0) }
          try messages.wait(for: 1)
          // Others are served meanwhile.
          for _ in 0..<10 { try wakeLoop() }
        } else if way == "ToTask" {
          Task(executorPreference: EventLoop.default) { for try await event in puppet.port.messages { note(event) } }
          try messages.wait(for: 1)
          for _ in 0..<10 { try wakeLoop() }
        } else {
          note(try puppet.port.receiveSoon())
          for _ in 0..<3 {
            do {
              note(try puppet.port.receiveSoon())
            } catch PortError.system(let error) where error.errno == EMFILE {
              report["refusals", default: 0] += 1
            }
          }
        }
        report["before" + way] = messages.count
      }
      if way == "ByHand" { for _ in 0..<6 { note(try puppet.port.receiveSoon()) } }
      report["messages" + way] = try messages.wait(for: 7) == [0, -2, 1, -2, 2, -2, 3] ? 7 : 0
      report["errors" + way] = errors.count
    }
    return report
  }

  /// Returns once the default loop has called a handler of another port.
  private static func wakeLoop() throws {
    let channel = try MessageChannel(), called = Promise<Void>()
    channel.port2.onMessage = { _ in called.fulfil() }
    try channel.port1.postMessage(bytes: [])
    try called.wait()
  }

  /// A loop whose thread starts when there is no descriptor left for a ring.
  private static func noRing() throws -> [String: Int] {
    let loop = EventLoop(name: "no ring")
    let local = try MessageChannel(loop: loop), puppet = try Puppet(in: FarProcess())
    puppet.port.setEventLoop(loop)
    let received = Collected<Int>(), receivedFromPeer = Collected<Int>(), closed = Promise<Void>()
    try withoutDescriptors {
      local.port2.onMessage = { event in received.append((try? event.load(as: Int.self)) ?? -1) }
      // One at a time, so that the loop sleeps in between.
      for number in 0..<100 {
        try local.port1.postMessage(bitwise: number)
        try received.wait(for: number + 1)
      }
    }
    puppet.port.onClose = { _ in closed.fulfil() }
    puppet.port.onMessage = { event in receivedFromPeer.append((try? event.load(as: Int.self)) ?? -1) }
    for number in 0..<100 {
      try puppet.post(number..<number + 1)
      try receivedFromPeer.wait(for: number + 1)
    }
    try puppet.close()
    try closed.wait()
    return ["received": received.count, "receivedFromPeer": receivedFromPeer.count, "closed": 1]
  }

  /// A message error whose report waits for the loop while the port is closed.
  private static func errorAfterClose() throws -> [String: Int] {
    let loop = EventLoop(name: "busy")
    let puppet = try Puppet(in: FarProcess())
    let isBlocked = Promise<Void>(), mayGoOn = Promise<Void>(), isFree = Promise<Void>(), errors = Collected<Int>()
    puppet.port.setEventLoop(loop)
    puppet.port.onMessageError = { _ in errors.append(0) }
    try puppet.postPorts(1)
    Task(executorPreference: loop) {
      isBlocked.fulfil()
      try mayGoOn.wait()
    }
    try isBlocked.wait()
    var report: [String: Int] = [:]
    let isEmpty = try TestThread {
      // There is no memory for the port that comes.
      Refusal.onThisThread([.sharedMapping(ENOMEM)])
      return if case .empty = try puppet.port.tryReceive() { true } else { false }
    }.join()
    report["empty"] = isEmpty ? 1 : 0
    puppet.port.close()
    mayGoOn.fulfil()
    Task(executorPreference: loop) { isFree.fulfil() }
    try isFree.wait()
    report["errors"] = errors.count
    return report
  }

  /// Runs `body` while the process cannot have any more descriptors.
  private static func withoutDescriptors(_ body: () throws -> Void) throws {
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    var old = rlimit()
    unsafe getrlimit(resource, &old)
    var none = rlimit(rlim_cur: 3, rlim_max: old.rlim_max)
    unsafe setrlimit(resource, &none)
    defer { unsafe setrlimit(resource, &old) }
    try body()
  }

  /// How much processor time a thousand started ports of each kind take while nothing happens.
  private static func idle(_ parent: Connection) throws -> [String: Int] {
    let channels = try makeStartedPorts(1000, parent)
    usleep(300_000)  // what was started has settled; nothing tells when
    let before = cpuMicroseconds
    usleep(1_000_000)
    return withExtendedLifetime(channels) { ["microseconds": cpuMicroseconds - before] }
  }

  private static func threads(_ parent: Connection) throws -> [String: Int] {
    let few = try makeStartedPorts(1, parent)
    let before = try countEntries("/proc/self/task")
    let many = try makeStartedPorts(1000, parent)
    let after = try countEntries("/proc/self/task")
    return withExtendedLifetime((few, many)) { ["more": after - before] }
  }

  /// `count` started ports with a handler whose peers are here, and as many whose peers are in the parent.
  private static func makeStartedPorts(_ count: Int, _ parent: Connection) throws -> [MessagePort] {
    var ports: [MessagePort] = []
    let received = Collected<Int>()
    for number in 0..<count {
      let local = try MessageChannel(), crossing = try MessageChannel()
      for port in [local.port1, crossing.port1] { port.onMessage = { _ in received.append(number) } }
      try local.port2.postMessage(bitwise: number)
      try crossing.port2.postMessage(bitwise: number)
      try parent.postMessage("keep", transfer: [crossing.port2])
      ports += [local.port1, local.port2, crossing.port1]
    }
    try received.wait(for: 2 * count)
    return ports
  }

  /// Two ports that answer each other: how far apart the stacks of their handlers are.
  private static func pingPong() throws -> [String: Int] {
    let channel = try MessageChannel()
    let extent = Mutex((lowest: UInt.max, highest: UInt.min))
    let done = Promise<Int>()
    for port in [channel.port1, channel.port2] {
      port.onMessage = { [unowned port] event in
        let here = stackPointer()
        extent.withLock { $0 = (min($0.lowest, here), max($0.highest, here)) }
        let number = (try? event.load(as: Int.self)) ?? 0
        if number == 0 { return done.fulfil(0) }
        try? port.postMessage(bitwise: number - 1)
      }
    }
    try channel.port1.postMessage(bitwise: 20_000)
    _ = try done.wait()
    return ["stackBytes": extent.withLock { Int($0.highest - $0.lowest) }]
  }

  @inline(never)
  private static func stackPointer() -> UInt {
    var here: UInt8 = 0
    return unsafe withUnsafeMutablePointer(to: &here) { UInt(bitPattern: $0) }
  }
}

/// How many entries a directory of `/proc` has.
public func countEntries(_ path: String) throws -> Int {
  guard let directory = unsafe opendir(path) else { throw DeadlineExceeded(what: "opening \(path)") }
  defer { unsafe closedir(directory) }
  var count = -2
  while unsafe readdir(directory) != nil { count += 1 }
  return count
}

/// The processor time of this process, all threads together.
public var cpuMicroseconds: Int {
  var usage = rusage()
  unsafe getrusage(RUSAGE_SELF.rawValue, &usage)
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1_000_000
    + Int(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
}
