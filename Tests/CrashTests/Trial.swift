import Foundation
import MessagePorts
import SharedRing
import TestSupport

/// One death, and what became of it.
struct Trial {
  enum Cause {
    /// At a step of the library, the `pass`-th time that it gets there.
    case step(CrashPoint, pass: Int)
    /// From outside, after this many microseconds.
    case moment(UInt32)
  }

  enum Verdict: Equatable {
    /// How many posts had returned, and how many messages came.
    case right(posted: Int, received: Int)
    /// The victim never got to the step.
    case notReached
    case wrong(String)
  }

  let cause: Cause
  let situation: Situation
  /// Room for what the survivor posts before anybody reads, and for the largest letter.
  static let queueLimitBytes = 4 << 20
  static let patience = 20.0
  /// A victim that has not got to its step by then never will: one pass through all it does takes milliseconds.
  static let reachSeconds = 1.5

  func run(_ carrier: MessagePort) throws -> Verdict {
    let start = Resources.now(), files = Self.files
    let verdict = try die(carrier)
    guard case .right = verdict else { return verdict }
    let deadline = Date.now + Self.patience
    // Fewer threads are not a fault: those that close what takes long end when they have nothing to do.
    while !Resources.now().isWithin(start) {
      guard Date.now < deadline else { return .wrong("left over: \(Resources.now()) after \(start)") }
      usleep(1000)
    }
    let leftovers = Self.files.subtracting(files)
    return leftovers.isEmpty ? verdict : .wrong("files left over: \(leftovers.sorted())")
  }

  private static var files: Set<String> { Set(entries(of: "/dev/shm").filter { $0.contains("message-port") }) }

  /// Whether the queue has a limit, so that somebody has to wait for space; otherwise lanes grow instead.
  private var hasLimit: Bool {
    switch cause {
    case .step(let point, _): [.spaceAnnounced, .spaceResumed, .spaceWakeTaken].contains(point)
    case .moment(let microseconds): microseconds % 2 == 1
    }
  }

  private func die(_ carrier: MessagePort) throws -> Verdict {
    let journal = Journal()
    defer { withExtendedLifetime(journal) {} }
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: hasLimit ? Self.queueLimitBytes : nil))
    var arguments = ["victim", journal.path]
    if case .step(let point, let pass) = cause { arguments += [point.rawValue, "\(pass)"] }
    let worker = try WorkerProcess.spawn(CommandLine.arguments[0], arguments: arguments)
    let ends = Collected<CloseReason>()
    worker.connection.onClose = { ends.append($0) }
    let questions = Questions(worker.connection, journal)
    try worker.connection.postMessage("port", transfer: [channel.port2])
    let survivor = Survivor(channel.port1, situation, carrier: carrier)
    defer { channel.port1.close() }

    let verdict = wait(worker, ends, survivor, questions, journal)
    worker.connection.close()
    survivor.letGo()
    let name = Victim.listenPath(worker.processIdentifier)
    // The name that a victim may have left behind can be taken over; nothing else may be there.
    try Listener(path: name).close()
    return verdict
  }

  private func wait(
    _ worker: WorkerProcess, _ ends: Collected<CloseReason>, _ survivor: Survivor, _ questions: Questions,
    _ journal: Journal
  ) -> Verdict {
    if case .moment(let microseconds) = cause {
      // A new process takes a while to do anything of interest; one in sixteen is killed before that.
      let begins = Date.now + Self.reachSeconds
      while microseconds % 16 != 0, journal[.attempted] == 0, Date.now < begins { usleep(100) }
      usleep(microseconds)
      worker.kill()
    }
    let reach = Date.now + Self.reachSeconds
    var wasReached = true
    while worker.isRunning {
      if let fault = survivor.fault(journal) ?? questions.fault() {
        worker.kill()
        return .wrong(fault)
      }
      if Date.now > reach, wasReached {
        wasReached = false
        worker.kill()
      }
      usleep(500)
    }
    let deadline = Date.now + Self.patience
    while ends.all.isEmpty, Date.now < deadline { usleep(500) }
    guard ends.all == [.peerExited(.signalled(SIGKILL))] else {
      return .wrong("the victim was not killed: \(ends.all)")
    }
    while let missing = survivor.missing(journal, situation) ?? questions.missing() {
      if let fault = survivor.fault(journal) ?? questions.fault() { return .wrong(fault) }
      guard Date.now < deadline else { return .wrong(missing) }
      usleep(500)
    }
    // A second close, or a message after it, would come now.
    usleep(2000)
    if let fault = survivor.fault(journal) ?? questions.fault() { return .wrong(fault) }
    guard wasReached else { return .notReached }
    return .right(posted: journal[.posted], received: survivor.state.withLock { $0.received })
  }
}
