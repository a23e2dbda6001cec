import Foundation
import MessagePorts

/// A host makes a channel and hands its ports to two workers. From then on nothing depends on the host: it can be
/// stopped, even killed, and the workers do not notice.
///
///     driver ── starts ──► host ── starts ──► A, B
///     A ◄────────── the channel ──────────► B
///     driver ◄───── a line each ──────────► A, B
///
/// The driver stands outside, since it stops and kills the host. Through the host it gave A and B a port each, on which
/// they tell it what they see.
enum TwoWorkers {
  // MARK: Messages

  /// What A and B write to each other.
  struct Letter: Codable {
    var number = 0
    var text = ""
    /// The last one of a round.
    var isLast = false
  }

  /// What the driver asks of A: to write this many letters to B, who answers each.
  struct Round: Codable {
    let letters: Int
  }

  /// What A and B tell the driver.
  enum News: Codable {
    case wroteFirstLetter(Moment)
    case receivedFirstLetter(String)
    case progress(Int)
    case roundEnded(RoundResult)
  }

  struct RoundResult: Codable, Equatable {
    var letters = 0
    var outOfOrder = 0
    var hasSeenClose = false
    var traffic = DemoTraffic()
  }

  /// What the host tells the driver, as it starts each worker.
  struct Started: Codable {
    let name: String
    let processIdentifier: Int32
    let at: Moment
  }

  // MARK: The driver

  static let lettersPerRound = 50_000

  static func play(_ run: DemoRun) async throws {
    run.step("the host starts A, and B half a second later")
    let host = try run.spawn(.twoWorkersHost, as: "host")
    let (hostLine, lineA, lineB) = (try MessageChannel(), try MessageChannel(), try MessageChannel())
    try host.connection.postMessage("start", transfer: [hostLine.port2, lineA.port2, lineB.port2])

    let startedA = try await hostLine.port1.next(Started.self, "the host's word that A is started")
    run.started("A", startedA.processIdentifier)
    let startedB = try await hostLine.port1.next(Started.self, "the host's word that B is started")
    run.started("B", startedB.processIdentifier)
    guard case .wroteFirstLetter(let written) = try await lineA.port1.next(News.self, "A's word on its first letter"),
      case .receivedFirstLetter(let textB) = try await lineB.port1.next(News.self, "B's word on its first letter"),
      case .receivedFirstLetter(let textA) = try await lineA.port1.next(News.self, "A's word on the answer")
    else { throw DemoUnexpected(what: "the first letters") }
    run.verify("A wrote before B existed", written < startedB.at, otherwise: "B was started before A wrote")
    run.verify("B received that letter", textB, "to whom it may concern")
    run.verify("A received B's answer to it", textA, "to whom it may concern: B")

    run.step("the host is stopped, and A and B go on")
    let hostProcess = DemoProcess(name: "host", identifier: host.processIdentifier)
    host.kill(SIGSTOP)
    try await eventually(demoPatience, "the host to be stopped") { hostProcess?.state == "T" }
    try await playRound(run, "with the host stopped", lineA.port1, lineB.port1)
    run.verify("the host was stopped all the time", hostProcess?.state, "T")

    run.step("the host is killed, and A and B go on")
    host.kill()
    run.verify("the host was killed", try await host.exitStatus(within: demoPatience), .signalled(SIGKILL))
    try await playRound(run, "with the host killed", lineA.port1, lineB.port1)
    // A and B end when the driver hangs up.
  }

  private static func playRound(_ run: DemoRun, _ how: String, _ a: MessagePort, _ b: MessagePort) async throws {
    try a.postMessage(Round(letters: lettersPerRound))
    let resultA = try await roundResult(a, "A's result") { run.progress("\((2 * $0).grouped) messages") }
    let resultB = try await roundResult(b, "B's result") { _ in }
    let letters = resultA.letters + resultB.letters
    run.verify("\(how), they exchanged \((2 * lettersPerRound).grouped) messages", letters, 2 * lettersPerRound)
    run.verify("each came once, in order", resultA.outOfOrder + resultB.outOfOrder, 0)
    run.verify("neither saw its port close", resultA.hasSeenClose || resultB.hasSeenClose, false)
    run.count(resultA.traffic)
    run.count(resultB.traffic)
  }

  private static func roundResult(
    _ line: MessagePort, _ what: String, onProgress: (Int) -> Void
  ) async throws -> RoundResult {
    while true {
      switch try await line.next(News.self, what) {
      case .roundEnded(let result): return result
      case .progress(let letters): onProgress(letters)
      case .wroteFirstLetter, .receivedFirstLetter: break
      }
    }
  }

  // MARK: The host

  static func playHost(_ parent: Connection) async throws {
    let start = try await parent.next("start")
    let (line, lineA, lineB) = (start.ports[0], start.ports[1], start.ports[2])

    let channel = try MessageChannel()
    let a = try DemoRole.twoWorkersA.spawn()
    try a.connection.postMessage("ports", transfer: [channel.port1, lineA])
    try line.postMessage(Started(name: "A", processIdentifier: a.processIdentifier, at: .now))

    try await Task.sleep(for: .milliseconds(500))
    let beforeB = Moment.now
    let b = try DemoRole.twoWorkersB.spawn()
    try b.connection.postMessage("ports", transfer: [channel.port2, lineB])
    try line.postMessage(Started(name: "B", processIdentifier: b.processIdentifier, at: beforeB))
    _ = try await parent.untilClosed()
  }

  // MARK: A and B

  static func playA(_ parent: Connection) async throws {
    let host = getppid()
    let ports = try await parent.next("ports").ports
    let (port, line) = (ports[0], ports[1])

    // B does not exist yet. The letter waits in the channel.
    try port.postMessage(Letter(text: "to whom it may concern"))
    try line.postMessage(News.wroteFirstLetter(.now))
    let answer = try await port.next(Letter.self, "B's first answer")
    try line.postMessage(News.receivedFirstLetter(answer.text))

    for try await event in line.messages {
      let round = try event.decode(Round.self)
      try line.postMessage(News.roundEnded(try await write(round, port, line)))
    }
    // The driver has gone, perhaps while the host was stopped and could not notice.
    if getppid() == host { kill(host, SIGKILL) }
  }

  /// Writes the letters of a round, at most `ahead` more than were answered.
  private static func write(_ round: Round, _ port: MessagePort, _ line: MessagePort) async throws -> RoundResult {
    let ahead = 64
    var result = RoundResult()
    var written = 0
    func writeNext() throws {
      guard written < round.letters else { return }
      written += 1
      try port.postMessage(Letter(number: written, isLast: written == round.letters))
    }
    for _ in 0..<ahead { try writeNext() }
    for try await event in port.messages {
      let letter = try event.decode(Letter.self)
      result.letters += 1
      result.traffic.add(event)
      if letter.number != result.letters { result.outOfOrder += 1 }
      if letter.isLast { break }
      if letter.number % 1000 == 0 {
        if line.isPeerClosed { break }
        try line.postMessage(News.progress(letter.number))
      }
      try writeNext()
    }
    result.hasSeenClose = port.isPeerClosed
    return result
  }

  static func playB(_ parent: Connection) async throws {
    let ports = try await parent.next("ports").ports
    let (port, line) = (ports[0], ports[1])

    let first = try await port.next(Letter.self, "A's first letter")
    try line.postMessage(News.receivedFirstLetter(first.text))
    try port.postMessage(Letter(text: first.text + ": B"))

    var result = RoundResult()
    for try await event in port.messages {
      let letter = try event.decode(Letter.self)
      result.letters += 1
      result.traffic.add(event)
      if letter.number != result.letters { result.outOfOrder += 1 }
      try port.postMessage(letter)
      if letter.isLast {
        result.hasSeenClose = port.isPeerClosed
        try line.postMessage(News.roundEnded(result))
        result = RoundResult()
      }
    }
  }
}
