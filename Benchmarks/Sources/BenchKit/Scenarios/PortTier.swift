import MessagePorts

// The port tier: handlers, sequences and blocking receives on whole ports.

extension Scenario {
  static let portTier: [Scenario] = [
    Scenario(name: "port-round-trip", near: PortTier.ask, far: PortTier.answer),
    Scenario(name: "port-round-trip-set", near: PortTier.askThroughSet, far: PortTier.answer),
    Scenario(name: "port-round-trip-handlers", near: PortTier.askByHandler, far: PortTier.answerByHandler),
    Scenario(name: "port-one-way", near: PortTier.produce, far: PortTier.consume),
  ]
}

enum PortTier {
  // MARK: Round trip, threads that receive

  /// `receive` of the job: `.polling` never sleeps, anything else sleeps at once.
  static func ask(_ job: Job, _ near: NearSide) throws -> Outcome {
    let port = try near.openChannel(ChannelOptions(spinPolicy: job.receive == .polling ? .always : .never))
    try near.waitUntilReady()
    return try ask(job, near, on: port) { (port) throws(PortError) in try port.receive() }
  }

  /// The same, but the thread waits for a set: of the port, and as many idle ones as the job wants.
  static func askThroughSet(_ job: Job, _ near: NearSide) throws -> Outcome {
    let port = try near.openChannel(ChannelOptions(spinPolicy: .never))
    try near.waitUntilReady()
    let idle = try (1..<job.ports).map { _ in try MessageChannel() }
    let set = try PortSet(idle.map(\.port1))
    try set.add(port)
    return try ask(job, near, on: port) { (port) throws(PortError) in
      while true {
        _ = try set.firstReady()
        if case .message(let event) = try port.tryReceive() { return event }
      }
    }
  }

  private static func ask(
    _ job: Job, _ near: NearSide, on port: MessagePort, _ receive: (MessagePort) throws(PortError) -> MessageEvent
  ) throws -> Outcome {
    let samples = LatencySamples()
    let meter = Meter(near)
    samples.start(job)
    var sequence: UInt64 = 0
    repeat {
      try port.postMessage(bitwise: sequence)
      let answer = try receive(port).load(as: UInt64.self)
      guard answer == sequence else { throw Message.Damaged(description: "answer \(answer) to \(sequence)") }
      sequence &+= 1
    } while samples.lap()
    let cost = meter.cost(of: Int(sequence))
    try port.postMessage(bitwise: sequence | Message.last)
    return try Outcome(samples, cost)
  }

  static func answer(_ job: Job, _ far: FarSide) throws {
    let port = try far.nextPort()
    try far.sayReady()
    while true {
      let question: UInt64
      if job.receive == .polling {
        // A port that has arrived waits as its process does by default; to poll, it is asked again and again.
        guard case .message(let event) = try port.tryReceive() else { continue }
        question = try event.load(as: UInt64.self)
      } else {
        question = try port.receive().load(as: UInt64.self)
      }
      if question & Message.last != 0 { return }
      try port.postMessage(bitwise: question)
    }
  }

  // MARK: Round trip, handlers on both sides

  static func askByHandler(_ job: Job, _ near: NearSide) throws -> Outcome {
    let port = try near.openChannel()
    try near.waitUntilReady()
    let samples = LatencySamples()
    let asker = Asker(port, samples)
    let meter = Meter(near)
    samples.start(job)
    port.onMessage = { event in asker.hear(event) }
    try port.postMessage(bitwise: UInt64(0))
    try asker.isDone.take()
    let cost = meter.cost(of: Int(asker.sequence))
    port.onMessage = nil
    return try Outcome(samples, cost)
  }

  /// Runs on the loop, one message at a time.
  private final class Asker: @unchecked Sendable {
    private let port: MessagePort
    private let samples: LatencySamples
    private(set) var sequence: UInt64 = 0
    let isDone = Mailbox<Void>()

    init(_ port: MessagePort, _ samples: LatencySamples) {
      self.port = port
      self.samples = samples
    }

    func hear(_ event: MessageEvent) {
      guard (try? event.load(as: UInt64.self)) == sequence else { return }  // The deadline will tell.
      sequence &+= 1
      if samples.lap() { try? port.postMessage(bitwise: sequence) } else { isDone.put(()) }
    }
  }

  static func answerByHandler(_ job: Job, _ far: FarSide) throws {
    let port = try far.nextPort()
    port.onMessage = { [unowned port] event in
      if let question = try? event.load(as: UInt64.self) { try? port.postMessage(bitwise: question) }
    }
    try far.sayReady()
    try Mailbox<Void>().take(seconds: 600)
  }

  // MARK: One way

  static func produce(_ job: Job, _ near: NearSide) throws -> Outcome {
    let port = try near.openChannel()
    try near.waitUntilReady()
    let meter = Meter(near)
    try produce(job, on: port)
    return Outcome(try near.report(), meter)
  }

  @inline(never)
  private static func produce(_ job: Job, on port: MessagePort) throws {
    let buffer = MessageBuffer(size: job.size)
    let mask: UInt64 = job.size <= 1024 ? 63 : 0
    var sequence: UInt64 = 0
    while true {
      if job.size == 8 {
        try port.postMessage(bitwise: sequence)
      } else {
        buffer.stamp(sequence)
        try port.postMessage(bytes: unsafe buffer.raw.bytes)
      }
      sequence &+= 1
      if sequence & mask == 0, case .message = try port.tryReceive() { break }
    }
    buffer.stamp(sequence | Message.last)
    try port.postMessage(bytes: unsafe buffer.raw.bytes)
  }

  static func consume(_ job: Job, _ far: FarSide) throws {
    let port = try far.nextPort()
    let sink = Sink(job, port)
    switch job.receive {
    case .handler:
      port.onMessage = { event in sink.take(event) }
      try far.sayReady()
    case .sequence:
      Task { for try await event in port.messages where sink.take(event) { break } }
      try far.sayReady()
    case .sequenceOnLoop:
      Task(executorPreference: EventLoop.default) {
        for try await event in port.messages where sink.take(event) { break }
      }
      try far.sayReady()
    case .batches:
      Task { try await sink.takeBatches() }
      try far.sayReady()
    case .batchesOnLoop:
      Task(executorPreference: EventLoop.default) { try await sink.takeBatches() }
      try far.sayReady()
    case .blocking:
      try far.sayReady()
      while sink.take(try port.receive()) == false {}
    case .polling:
      try far.sayReady()
      while true { if case .message(let event) = try port.tryReceive(), sink.take(event) { break } }
    }
    try far.send(try sink.result.take().get())
  }

  /// Where messages end up: checked, counted, and the sender told when the time is over.
  private final class Sink: @unchecked Sendable {  // one message at a time
    private let port: MessagePort
    private let checker: Checker
    private let mask: UInt64
    private var window: ArrivalWindow
    let result = Mailbox<Result<Report, any Error>>()

    nonisolated(nonsending) func takeBatches() async throws {
      for try await batch in port.messageBatches {
        for event in batch where take(event) { return }
      }
    }

    init(_ job: Job, _ port: MessagePort) {
      self.port = port
      checker = Checker(size: job.size)
      mask = job.size <= 1024 ? 63 : 0
      window = ArrivalWindow(job)
    }

    /// `true`: that was the last.
    @discardableResult
    func take(_ event: MessageEvent) -> Bool {
      do {
        if try event.withBytes({ bytes in try unsafe bytes.withUnsafeBytes { try unsafe checker.check($0) } }) {
          if let report = window.report { result.put(.success(report)) }
          return true
        }
        if checker.expected & mask == 0, window.isOver(received: Int(checker.expected)) {
          try port.postMessage(bitwise: UInt64(1))
        }
      } catch { result.put(.failure(error)) }
      return false
    }
  }
}
