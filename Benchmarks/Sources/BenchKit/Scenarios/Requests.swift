import MessagePorts

// Requests and streams: tasks on the loop that asks, handlers on the loop that answers.

extension Scenario {
  static let requests: [Scenario] = [
    Scenario(name: "request-round-trip", near: Requests.ask, far: Requests.answer),
    Scenario(name: "request-local", near: Requests.askHere, far: nil),
    Scenario(name: "requests", near: Requests.askMany, far: Requests.answer),
    Scenario(name: "stream", near: Requests.read, far: Requests.write),
  ]
}

enum Requests {
  static func answer(_ job: Job, _ far: FarSide) throws {
    let connection = Connection(over: try far.nextPort())
    connection.onRequest(bytes: "echo") { context in context.bytes }
    try far.sayReady()
    try Mailbox<Void>().take(seconds: 600)
  }

  // MARK: One after the other

  static func ask(_ job: Job, _ near: NearSide) throws -> Outcome {
    let connection = Connection(over: try near.openChannel())
    try near.waitUntilReady()
    return try ask(job, over: connection)
  }

  /// Both ends on one loop: what a request costs without the way there and back.
  static func askHere(_ job: Job, _ near: NearSide) throws -> Outcome {
    let channel = try MessageChannel()
    let server = Connection(over: channel.port2)
    server.onRequest(bytes: "echo") { context in context.bytes }
    return try ask(job, over: Connection(over: channel.port1))
  }

  private static func ask(_ job: Job, over connection: Connection) throws -> Outcome {
    let samples = LatencySamples()
    let end = Mailbox<Result<Void, any Error>>()
    Task(executorPreference: EventLoop.default) {
      do {
        var question = [UInt8](repeating: 0, count: job.size)
        samples.start(job)
        repeat {
          question[0] &+= 1
          let answer = try await connection.request("echo", bytes: question)
          guard answer.byteCount == job.size, answer.withBytes({ unsafe $0.unsafeLoad(as: UInt8.self) }) == question[0]
          else { throw Message.Damaged(description: "another answer") }
        } while samples.lap()
        end.put(.success(()))
      } catch { end.put(.failure(error)) }
    }
    try end.take().get()
    return try Outcome(samples)
  }

  // MARK: Several under way

  static func askMany(_ job: Job, _ near: NearSide) throws -> Outcome {
    let connection = Connection(over: try near.openChannel())
    try near.waitUntilReady()
    let counts = Mailbox<Result<Double, any Error>>()
    let begin = Ticks.now + Ticks.inSeconds(job.warmUpSeconds)
    let end = begin + Ticks.inSeconds(job.seconds)
    for _ in 0..<job.batch {
      Task(executorPreference: EventLoop.default) {
        let question = [UInt8](repeating: 1, count: job.size)
        do {
          var count = 0.0
          while true {
            guard try await connection.request("echo", bytes: question).byteCount == job.size else {
              throw Message.Damaged(description: "another answer")
            }
            let now = Ticks.now
            if now >= end { break }
            if now >= begin { count += 1 }
          }
          counts.put(.success(count))
        } catch { counts.put(.failure(error)) }
      }
    }
    var count = 0.0
    for _ in 0..<job.batch { count += try counts.take().get() }
    return Outcome(count / job.seconds)
  }

  // MARK: Streams

  /// Bytes of elements per second.
  static func read(_ job: Job, _ near: NearSide) throws -> Outcome {
    let connection = Connection(over: try near.openChannel())
    try near.waitUntilReady()
    let result = Mailbox<Result<Double, any Error>>()
    Task(executorPreference: EventLoop.default) {
      do {
        let begin = Ticks.now + Ticks.inSeconds(job.warmUpSeconds)
        let end = begin + Ticks.inSeconds(job.seconds)
        var bytes = 0.0
        var last: UInt8 = 0
        for try await element in connection.stream("pour", job.size, of: [UInt8].self) {
          guard element.count == job.size, element.first == last else {
            throw Message.Damaged(description: "another element")
          }
          last &+= 1
          let now = Ticks.now
          if now >= end { break }
          if now >= begin { bytes += Double(element.count) }
        }
        result.put(.success(bytes / job.seconds))
      } catch { result.put(.failure(error)) }
    }
    return Outcome(try result.take().get())
  }

  static func write(_ job: Job, _ far: FarSide) throws {
    let connection = Connection(over: try far.nextPort())
    connection.onStream("pour", of: Int.self) { size, writer in
      var element = [UInt8](repeating: 0, count: size)
      while true {
        try await writer.send(element)
        element[0] &+= 1
      }
    }
    try far.sayReady()
    try Mailbox<Void>().take(seconds: 600)
  }
}
