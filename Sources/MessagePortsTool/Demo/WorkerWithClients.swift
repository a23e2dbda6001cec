import Foundation
import MessagePorts
import Synchronization

/// Clients ask their host for a channel to the worker. The host makes one for each and steps out: the work goes
/// straight from client to worker. When the worker dies, each client hears of it on its own channel, and asks again.
///
///     client ── request-worker-channel ──► host      one port to the client, the other to the worker
///     client ◄──── jobs and answers ─────► worker
///
/// Each client has all the files summarised, in three batches: while the first is worked on, a client is killed and
/// restarted; during the second, the worker is killed and replaced.
enum WorkerWithClients {
  // MARK: Messages

  /// What the host wants from a client: these files, summarised.
  struct Batch: Codable {
    let files: [NumberedFile]
  }

  struct NumberedFile: Codable, Hashable {
    let number: Int
    let path: String
  }

  /// The worker's answer to a ``NumberedFile``.
  struct Answer: Codable {
    let file: NumberedFile
    let summary: FileSummary?
    /// Which worker has answered.
    let workerIdentifier: Int32
  }

  /// A client's word to the host on each answer that it gets.
  struct Received: Codable {
    let answer: Answer
    let traffic: DemoTraffic
  }

  // MARK: The host

  static let clientNames = ["client 1", "client 2", "client 3"]

  static func play(_ run: DemoRun, files: [String]) async throws {
    let paths = files.isEmpty ? try DefaultFiles.find() : files
    // Three batches need three files: fewer are read repeatedly.
    let repeated = (0..<max(3, paths.count)).map { NumberedFile(number: $0, path: paths[$0 % paths.count]) }
    let third = repeated.count / 3
    let batches = [repeated[..<third], repeated[third..<2 * third], repeated[(2 * third)...]].map(Array.init)

    run.step("\(clientNames.count) clients, \(repeated.count) files each")
    let host = try WorkerHost(run)
    for name in clientNames { try host.startClient(name, files: batches[0]) }

    try await host.waitForAnswers(from: clientNames, atLeast: 1)
    run.step("client 2 is killed and restarted")
    try await host.restartClient("client 2")
    let before = host.answerCounts
    host.give(batches[1])

    try await host.waitForMoreAnswers(than: before)
    run.step("the worker is killed and replaced")
    let firstWorker = host.workerIdentifier
    try await host.replaceWorker()
    host.give(batches[2])
    try await host.waitForAnswers(from: clientNames, atLeast: repeated.count)

    let expected = try await StandardTools.summaries(ofFiles: repeated.map(\.path))
    host.verify(against: expected, firstWorker: firstWorker)
  }

  // MARK: The worker

  static func playWorker(_ parent: Connection) async throws {
    parent.on("serve") { event in
      for port in event.ports {
        // Served for as long as the client keeps the other end; the library keeps this one meanwhile.
        port.onMessage(of: NumberedFile.self) { [weak port] file, _ in
          let answer = Answer(file: file, summary: try? FileSummary(ofFile: file.path), workerIdentifier: getpid())
          try? port?.postMessage(answer)
        }
      }
    }
    _ = try await parent.untilClosed()
  }

  // MARK: A client

  static func playClient(_ parent: Connection) async throws {
    let client = FileClient(parent)
    parent.on("batch", of: Batch.self) { batch, _ in client.ask(for: batch.files) }
    parent.on("worker-channel") { event in event.ports.first.map(client.use) }
    try parent.postMessage("request-worker-channel")
    _ = try await parent.untilClosed()
  }
}

/// A client: knows what it has not been answered yet, and asks whatever worker there is.
private final class FileClient: Sendable {
  private struct State {
    var unanswered: [WorkerWithClients.NumberedFile] = []
    var worker: MessagePort?
  }
  private let state = Mutex(State())
  private let host: Connection

  init(_ host: Connection) { self.host = host }

  func ask(for files: [WorkerWithClients.NumberedFile]) {
    let worker = state.withLock { state in
      state.unanswered += files
      return state.worker
    }
    post(files, to: worker)
  }

  /// Goes on with this worker.
  func use(_ worker: MessagePort) {
    worker.onMessage(of: WorkerWithClients.Answer.self) { [self] answer, event in take(answer, event) }
    worker.onClose = { [self] _ in
      state.withLock { $0.worker = nil }
      try? host.postMessage("worker-closed")
      try? host.postMessage("request-worker-channel")
    }
    let unanswered = state.withLock { state in
      state.worker = worker
      return state.unanswered
    }
    post(unanswered, to: worker)
  }

  private func post(_ files: [WorkerWithClients.NumberedFile], to worker: MessagePort?) {
    for file in files { try? worker?.postMessage(file) }
  }

  private func take(_ answer: WorkerWithClients.Answer, _ event: MessageEvent) {
    state.withLock { $0.unanswered.removeAll { $0 == answer.file } }
    var traffic = DemoTraffic()
    traffic.add(event)
    try? host.postMessage("received", WorkerWithClients.Received(answer: answer, traffic: traffic))
  }
}
