import Foundation
import MessagePorts
import Synchronization

/// The host of the clients and the worker: brings them together, starts them again, and keeps what was answered.
final class WorkerHost: Sendable {
  private struct Client {
    var process: WorkerProcess
    /// Given to it, or to the one that it replaces.
    var files: [WorkerWithClients.NumberedFile] = []
    var answers: [Int: WorkerWithClients.Answer] = [:]
    var repeatedAnswers = 0
    var closesHeard = 0
    /// How many answers the killed process had.
    var answersBeforeRestart: Int?

    var unanswered: [WorkerWithClients.NumberedFile] { files.filter { answers[$0.number] == nil } }
  }

  private struct State {
    var worker: WorkerProcess
    var clients: [String: Client] = [:]
  }

  private let run: DemoRun
  private let state: Mutex<State>

  init(_ run: DemoRun) throws {
    self.run = run
    state = Mutex(State(worker: try run.spawn(.fileWorker, as: "worker")))
  }

  // MARK: Clients

  func startClient(_ name: String, files: [WorkerWithClients.NumberedFile]) throws {
    let process = try run.spawn(.fileClient, as: name)
    state.withLock { $0.clients[name] = Client(process: process, files: files) }
    try serve(process, name, files)
  }

  private func serve(_ process: WorkerProcess, _ name: String, _ files: [WorkerWithClients.NumberedFile]) throws {
    let connection = process.connection
    connection.on("request-worker-channel") { [self] event in connectToWorker(event.connection) }
    connection.on("received", of: WorkerWithClients.Received.self) { [self] received, _ in note(received, from: name) }
    connection.on("worker-closed") { [self] _ in state.withLock { $0.clients[name]?.closesHeard += 1 } }
    try connection.postMessage("batch", WorkerWithClients.Batch(files: files))
  }

  /// Makes a channel, hands out both ports, and has no part in what is said on it.
  private func connectToWorker(_ client: Connection) {
    let worker = state.withLock { $0.worker }
    do {
      let channel = try MessageChannel()
      try worker.connection.postMessage("serve", transfer: [channel.port1])
      try client.postMessage("worker-channel", transfer: [channel.port2])
    } catch {
      run.verify("a client gets its channel", false, otherwise: "\(error)")
    }
  }

  private func note(_ received: WorkerWithClients.Received, from name: String) {
    run.count(received.traffic)
    let total = state.withLock { state in
      let number = received.answer.file.number
      if state.clients[name]?.answers.updateValue(received.answer, forKey: number) != nil {
        state.clients[name]?.repeatedAnswers += 1
      }
      return state.clients.values.reduce(0) { $0 + $1.answers.count }
    }
    run.progress("\(total) answers")
  }

  /// More work for everybody.
  func give(_ files: [WorkerWithClients.NumberedFile]) {
    let connections = state.withLock { state in
      for name in Array(state.clients.keys) { state.clients[name]?.files += files }
      return state.clients.values.map(\.process.connection)
    }
    for connection in connections {
      do { try connection.postMessage("batch", WorkerWithClients.Batch(files: files)) } catch {
        run.verify("a client gets its files", false, otherwise: "\(error)")
      }
    }
  }

  /// Kills a client, and lets another one do what it has left undone.
  func restartClient(_ name: String) async throws {
    guard let old = state.withLock({ $0.clients[name]?.process }) else { return }
    old.kill()
    // Everything it had said comes before the close.
    try await within(demoPatience, "the close of \(name)") { _ = try await old.connection.untilClosed() }
    let new = try run.spawn(.fileClient, as: name + " again")
    let unanswered = state.withLock { state in
      state.clients[name]?.process = new
      let answerCount = state.clients[name]?.answers.count
      state.clients[name]?.answersBeforeRestart = answerCount
      return state.clients[name]?.unanswered ?? []
    }
    try serve(new, name, unanswered)
  }

  // MARK: The worker

  var workerIdentifier: Int32 { state.withLock { $0.worker.processIdentifier } }

  /// Kills the worker and starts another one.
  ///
  /// Nothing is awaited in between, and the handlers run on the same loop as this: no client that has heard of the
  /// death can be sent to the dead worker.
  func replaceWorker() async throws {
    let old = state.withLock { $0.worker }
    old.kill()
    let new = try run.spawn(.fileWorker, as: "worker again")
    state.withLock { $0.worker = new }
    let status = try await old.exitStatus(within: demoPatience)
    run.verify("the worker was killed while it worked", status, .signalled(SIGKILL))
  }

  // MARK: Answers

  /// How many files each client has been answered.
  var answerCounts: [String: Int] { state.withLock { $0.clients.mapValues(\.answers.count) } }

  func waitForAnswers(from names: [String], atLeast count: Int) async throws {
    try await eventually(demoPatience, "\(count) answers for each client") { [self] in
      let counts = answerCounts
      return names.allSatisfy { counts[$0, default: 0] >= count }
    }
  }

  func waitForMoreAnswers(than counts: [String: Int]) async throws {
    try await eventually(demoPatience, "more answers for each client") { [self] in
      answerCounts.allSatisfy { $0.value > counts[$0.key, default: 0] }
    }
  }

  // MARK: Findings

  func verify(against expected: [FileSummary], firstWorker: Int32) {
    let clients = state.withLock { $0.clients }.sorted { $0.key < $1.key }.map(\.value)
    let answers = clients.map { client in client.answers.sorted { $0.key < $1.key }.map(\.value) }

    run.verify("each client got one answer for each file", clients.map(\.repeatedAnswers), clients.map { _ in 0 })
    run.verify(
      "the restarted client went on where the killed one had stopped",
      clients.compactMap(\.answersBeforeRestart).allSatisfy { (1..<expected.count).contains($0) },
      otherwise: "it had \(clients.compactMap(\.answersBeforeRestart)) of \(expected.count) answers")
    run.verify("each client heard the worker's channel close, once", clients.map(\.closesHeard), clients.map { _ in 1 })
    let byFirst = answers.map { $0.count { $0.workerIdentifier == firstWorker } }
    run.verify(
      "the first worker's answers were kept, and the second did the rest",
      byFirst.allSatisfy { (1..<expected.count).contains($0) },
      otherwise: "the first worker answered \(byFirst) of \(expected.count)")

    verify(answers, expected, "line, word and byte counts are those of wc") { [$0.lines, $0.words, $0.bytes] }
    if Digest.sha256(of: []) == nil {
      run.notVerified("digests are those of sha256sum", because: "there is no libcrypto to make digests with")
    } else {
      verify(answers, expected, "digests are those of sha256sum") { $0.digest }
    }
  }

  private func verify<Value: Equatable>(
    _ answers: [[WorkerWithClients.Answer]], _ expected: [FileSummary], _ claim: String,
    _ value: (FileSummary) -> Value
  ) {
    for answers in answers {
      for (answer, expected) in zip(answers, expected) where answer.summary.map(value) != value(expected) {
        let found = answer.summary.map { "\(value($0))" } ?? "nothing"
        return run.verify(
          claim, false, otherwise: "\(answer.file.path): \(found) instead of \(value(expected))")
      }
    }
    run.verify(claim, answers.map(\.count), answers.map { _ in expected.count })
  }
}
