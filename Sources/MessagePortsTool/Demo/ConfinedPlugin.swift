import Foundation
import MessagePorts

/// The host asks a plug-in that it has never met and could not reach otherwise: the plug-in has no file system, no
/// network, and no name to connect to. All it has is the port that it was handed.
///
///     host ── "run-plugin", with a port ──► worker ── the same port, unopened ──► plug-in
///     host ◄───────────────────── question and answers ─────────────────────────► plug-in
enum ConfinedPlugin {
  // MARK: Messages

  /// What the host posts before anybody is there to read it.
  struct Question: Codable, Sendable {
    let numbers: [Int]
    /// What the plug-in is to try.
    let attempts: ConfinementProbe
  }

  struct Answer: Codable, Sendable {
    let sum: Int
    let probe: ConfinementProbe.Findings
    let traffic: DemoTraffic
  }

  /// The worker reports what it has done.
  struct PluginStarted: Codable, Sendable {
    let processIdentifier: Int32
    let cage: PluginCage
    /// Why each better way of confining it failed.
    let complaints: [String]
    /// All the files that the plug-in was given.
    let files: [String]
    /// Whether the port went on just as it had come.
    let portWasUnopened: Bool
    /// What the worker, which is not confined, finds when it tries the same.
    let probe: ConfinementProbe.Findings
  }

  // MARK: The host

  static func play(_ run: DemoRun) async throws {
    let listenerPath = NSTemporaryDirectory() + "messageports-demo-\(getpid()).socket"
    let listener = try Listener(path: listenerPath)
    defer { listener.close() }
    let attempts = ConfinementProbe(files: ["/etc/passwd", "/bin/sh", "/dev/null"], listenerPath: listener.path)

    run.step("a question is posted, and the port handed on")
    let channel = try MessageChannel()
    try channel.port1.postMessage(Question(numbers: Array(1...100), attempts: attempts))
    let worker = try run.spawn(.pluginWorker, as: "worker")
    let workerLine = try MessageChannel()
    try worker.connection.postMessage("run-plugin", attempts, transfer: [channel.port2, workerLine.port2])

    let started = try await workerLine.port1.next(PluginStarted.self, "the worker's word that the plug-in runs")
    run.started("plug-in", started.processIdentifier, note: started.cage.description)
    run.step("the plug-in answers")
    let answer = try await channel.port1.next(Answer.self, "the plug-in's answer")
    // The worker no longer has any part in the channel.
    worker.kill()
    let status = try await worker.exitStatus(within: demoPatience)
    try channel.port1.postMessage(Question(numbers: [1, 2, 3], attempts: attempts))
    let second = try await channel.port1.next(Answer.self, "the plug-in's answer after the worker's end")

    run.verify("the worker passed the port on unopened", started.portWasUnopened, true)
    run.verify("the plug-in received what was posted before it existed", answer.sum, 5050)
    run.verify("it answers the host without the worker, which was killed", second.sum, 6)
    run.verify("the worker was killed", status, .signalled(SIGKILL))
    run.count(second.traffic)
    verifyConfinement(run, started, answer.probe, attempts)
  }

  private static func verifyConfinement(
    _ run: DemoRun, _ started: PluginStarted, _ plugin: ConfinementProbe.Findings, _ attempts: ConfinementProbe
  ) {
    run.verify(
      "a process that is not confined opens the files and reaches the host's listener",
      [started.probe.openedFiles, [started.probe.listener]], [attempts.files, ["connected"]])
    let claims = [
      "the plug-in finds no file but its executable and libraries", "it cannot reach the host's listener",
      "it lives in namespaces of its own",
    ]
    guard started.cage != .none else {
      for claim in claims { run.notVerified(claim, because: started.complaints.joined(separator: "; ")) }
      return
    }
    run.verify(claims[0], plugin.openedFiles + plugin.visibleFiles, started.files)
    run.verify(claims[1], plugin.listener != "connected", otherwise: "it has connected")
    let shared = ConfinementProbe.namespaces.filter { kind in
      plugin.namespaces[kind].map { $0 == started.probe.namespaces[kind] } ?? true
    }
    run.verify("\(claims[2]): \(ConfinementProbe.namespaces.joined(separator: ", "))", shared, [])
  }

  // MARK: The worker

  static func playWorker(_ parent: Connection) async throws {
    let request = try await parent.next("run-plugin")
    let (port, line) = (request.ports[0], request.ports[1])
    let attempts = try request.decode(ConfinementProbe.self)

    let (plugin, cage, complaints) = try await startPlugin()
    // The port has waited just as it came: never started, nothing taken from it.
    let wasUnopened = !port.isStarted && !port.isClosed
    try plugin.connection.postMessage("port", transfer: [port])
    try line.postMessage(
      PluginStarted(
        processIdentifier: plugin.processIdentifier, cage: cage, complaints: complaints,
        files: PluginCage.files, portWasUnopened: wasUnopened, probe: await attempts.carryOut()))
    _ = try await parent.untilClosed()
  }

  /// Starts the plug-in in the first cage that works, and waits until it is ready.
  private static func startPlugin() async throws -> (WorkerProcess, PluginCage, complaints: [String]) {
    var complaints: [String] = []
    for cage in PluginCage.allCases {
      do {
        let plugin = try cage.start(.plugin)
        try await within(demoPatience, "a sign of life") { _ = try await plugin.connection.next("ready") }
        return (plugin, cage, complaints)
      } catch {
        complaints.append("\(cage): \(error)")
      }
    }
    throw PluginFailure(complaints: complaints)
  }

  struct PluginFailure: Error, CustomStringConvertible {
    let complaints: [String]
    var description: String { "the plug-in does not start: \(complaints.joined(separator: "; "))" }
  }

  // MARK: The plug-in

  static func playPlugin(_ parent: Connection) async throws {
    try parent.postMessage("ready")
    let port = try await parent.next("port").ports[0]
    var traffic = DemoTraffic()
    for try await event in port.messages {
      let question = try event.decode(Question.self)
      traffic.add(event)
      let probe = await question.attempts.carryOut()
      try port.postMessage(Answer(sum: question.numbers.reduce(0, +), probe: probe, traffic: traffic))
    }
  }
}
