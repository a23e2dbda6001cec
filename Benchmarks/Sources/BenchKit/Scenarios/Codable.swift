import MessagePorts

// Values: encoded by the poster, decoded before the handler sees them.

extension Scenario {
  static let codable = Scenario(name: "codable", near: CodableValues.produce, far: CodableValues.consume)
}

enum CodableValues {
  /// Five fields of which one is nested; the peers send the same.
  struct Value: Codable, Sendable {
    var id: Int64
    var name: String
    var ratio: Double
    var active: Bool
    var position: Position

    struct Position: Codable, Sendable {
      var x: Double
      var y: Double
      var label: String
    }
  }

  static func produce(_ job: Job, _ near: NearSide) throws -> Outcome {
    let port = try near.openChannel()
    try near.waitUntilReady()
    var value = Value(id: 0, name: "message port", ratio: 0.5, active: true, position: .init(x: 1, y: 2, label: "p"))
    while true {
      try port.postMessage(value)
      value.id += 1
      if value.id % 64 == 0, case .message = try port.tryReceive() { break }
    }
    value.id = -1
    try port.postMessage(value)
    return Outcome(try near.report().perSecond)
  }

  static func consume(_ job: Job, _ far: FarSide) throws {
    let port = try far.nextPort()
    let sink = Sink(job, port)
    port.onMessage(of: Value.self) { value, _ in sink.take(value) }
    try far.sayReady()
    try far.send(try sink.result.take().get())
  }

  private final class Sink: @unchecked Sendable {  // one message at a time, on the loop
    private let port: MessagePort
    private var window: ArrivalWindow
    private var received: Int64 = 0
    let result = Mailbox<Result<Report, any Error>>()

    init(_ job: Job, _ port: MessagePort) {
      self.port = port
      window = ArrivalWindow(job)
    }

    func take(_ value: Value) {
      if value.id == -1, let report = window.report { return result.put(.success(report)) }
      guard value.id == received, value.position.label == "p" else {
        return result.put(.failure(Message.Damaged(description: "value \(value.id) instead of \(received)")))
      }
      received += 1
      if received % 64 == 0, window.isOver(received: Int(received)) { try? port.postMessage(bitwise: UInt64(1)) }
    }
  }
}
