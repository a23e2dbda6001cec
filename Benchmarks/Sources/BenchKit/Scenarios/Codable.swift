import MessagePorts

// Values: encoded by the poster, decoded before the handler sees them. By `Codable`, and by the type's own code.

extension Scenario {
  static let values: [Scenario] = [
    Scenario(name: "codable", near: CodableValues.produce, far: CodableValues.consume),
    Scenario(name: "message-values", near: DirectValues.produce, far: DirectValues.consume),
  ]
}

/// Five fields of which one is nested; the peers send the same.
private struct Value: Codable, Sendable {
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

  static let example = Value(
    id: 0, name: "message port", ratio: 0.5, active: true, position: .init(x: 1, y: 2, label: "p"))
}

/// The same fields, which write themselves into the message and read themselves out of it.
private struct DirectValue: MessageValue, Sendable {
  var id: Int64
  var name: String
  var ratio: Double
  var active: Bool
  var position: Position

  struct Position: MessageValue, Sendable {
    var x: Double
    var y: Double
    var label: String

    init(x: Double, y: Double, label: String) { (self.x, self.y, self.label) = (x, y, label) }

    func write(to writer: inout ValueWriter) {
      writer.writeEntries { entries in
        entries.write(x, forKey: "x")
        entries.write(y, forKey: "y")
        entries.write(label, forKey: "label")
      }
    }

    init(from reader: inout ValueReader) throws {
      self = try reader.readEntries { entries in
        Position(
          x: try entries.read(forKey: "x"), y: try entries.read(forKey: "y"), label: try entries.read(forKey: "label"))
      }
    }
  }

  static let example = DirectValue(
    id: 0, name: "message port", ratio: 0.5, active: true, position: Position(x: 1, y: 2, label: "p"))

  init(id: Int64, name: String, ratio: Double, active: Bool, position: Position) {
    (self.id, self.name, self.ratio, self.active, self.position) = (id, name, ratio, active, position)
  }

  func write(to writer: inout ValueWriter) {
    writer.writeEntries { entries in
      entries.write(id, forKey: "id")
      entries.write(name, forKey: "name")
      entries.write(ratio, forKey: "ratio")
      entries.write(active, forKey: "active")
      entries.write(position, forKey: "position")
    }
  }

  init(from reader: inout ValueReader) throws {
    self = try reader.readEntries { entries in
      DirectValue(
        id: try entries.read(forKey: "id"), name: try entries.read(forKey: "name"),
        ratio: try entries.read(forKey: "ratio"), active: try entries.read(forKey: "active"),
        position: try entries.read(forKey: "position"))
    }
  }
}

private enum CodableValues {
  static func produce(_ job: Job, _ near: NearSide) throws -> Outcome {
    let port = try near.openChannel()
    try near.waitUntilReady()
    let meter = Meter(near)
    var value = Value.example
    while true {
      try port.postMessage(value)
      value.id += 1
      if value.id % 64 == 0, case .message = try port.tryReceive() { break }
    }
    value.id = -1
    try port.postMessage(value)
    return Outcome(try near.report(), meter)
  }

  static func consume(_ job: Job, _ far: FarSide) throws {
    let port = try far.nextPort()
    let sink = Sink(job, port)
    port.onMessage(of: Value.self) { value, _ in sink.take(value.id, value.position.label) }
    try far.sayReady()
    try far.send(try sink.result.take().get())
  }
}

private enum DirectValues {
  static func produce(_ job: Job, _ near: NearSide) throws -> Outcome {
    let port = try near.openChannel()
    try near.waitUntilReady()
    let meter = Meter(near)
    var value = DirectValue.example
    while true {
      try port.postMessage(value)
      value.id += 1
      if value.id % 64 == 0, case .message = try port.tryReceive() { break }
    }
    value.id = -1
    try port.postMessage(value)
    return Outcome(try near.report(), meter)
  }

  static func consume(_ job: Job, _ far: FarSide) throws {
    let port = try far.nextPort()
    let sink = Sink(job, port)
    port.onMessage(of: DirectValue.self) { value, _ in sink.take(value.id, value.position.label) }
    try far.sayReady()
    try far.send(try sink.result.take().get())
  }
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

  func take(_ id: Int64, _ label: String) {
    if id == -1, let report = window.report { return result.put(.success(report)) }
    guard id == received, label == "p" else {
      return result.put(.failure(Message.Damaged(description: "value \(id) instead of \(received)")))
    }
    received += 1
    if received % 64 == 0, window.isOver(received: Int(received)) { try? port.postMessage(bitwise: UInt64(1)) }
  }
}
