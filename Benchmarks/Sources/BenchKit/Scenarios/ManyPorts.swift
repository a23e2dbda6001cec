import CBench
import MessagePorts

extension Scenario {
  static let manyPorts = Scenario(name: "many-ports", near: ManyPorts.ask, far: ManyPorts.answer)
}

/// What a message costs when there are many ports between the two processes, all with a handler on the far side.
///
/// Three ways, each in nanoseconds per message:
/// - round trips, one at a time, each on the next port: both sides sleep in between
/// - `busy one`: messages one way on one of the ports, while the others are idle
/// - `in turn`: messages one way, each on the next port, as fast as it goes
enum ManyPorts {
  static let busyOne = "one busy, the others idle"
  static let inTurn = "one way, each to the next port"

  static func ask(_ job: Job, _ near: NearSide) throws -> Outcome {
    var ports: [MessagePort] = []
    for _ in 0..<job.ports {
      ports.append(try near.openChannel(ChannelOptions(spinPolicy: .never)))
      // Ports that nobody has taken yet are limited by the kernel.
      if ports.count % 64 == 0 || ports.count == job.ports { try near.waitUntilReady() }
    }
    var next = 0
    func roundTrip() throws {
      let port = ports[next]
      next = (next + 1) % ports.count
      try port.postMessage(bitwise: echo)
      _ = try port.receive()
    }
    for _ in ports { try roundTrip() }  // Each has slept once.
    var outcome = Outcome(1e9 / (try measureRate(job, roundTrip)))
    outcome.others[busyOne] = try oneWay(job, near, ports) { 0 }
    outcome.others[inTurn] = try oneWay(job, near, ports) {
      next = (next + 1) % ports.count
      return next
    }
    return outcome
  }

  /// What the far side does with a message.
  private static let echo: UInt64 = 0
  private static let count: UInt64 = 1
  /// Count, and say how long it took since the first.
  private static let last: UInt64 = 2

  private static func oneWay(
    _ job: Job, _ near: NearSide, _ ports: [MessagePort], _ choose: () -> Int
  ) throws -> Double {
    let begin = Ticks.now
    let end = begin + Ticks.inSeconds(job.seconds)
    var sent = 0
    repeat {
      for _ in 0..<64 { try ports[choose()].postMessage(bitwise: count) }
      sent += 64
    } while Ticks.now < end
    // On the same port as all, or as the one before the last: the loop is fair, so little is left behind elsewhere.
    try ports[choose()].postMessage(bitwise: last)
    let report = try near.report()
    return report.seconds * 1e9 / Double(report.count)
  }

  static func answer(_ job: Job, _ far: FarSide) throws {
    let counter = Counter(far)
    var ports: [MessagePort] = []
    while true {
      let port = try far.nextPort()
      ports.append(port)
      port.onMessage = { [unowned port] event in counter.hear(event, on: port) }
      if ports.count % 64 == 0 || ports.count == job.ports { try far.sayReady() }
    }
  }

  /// All on one loop: one message at a time.
  private final class Counter: @unchecked Sendable {
    private let far: FarSide
    private var received = 0
    private var begin: UInt64 = 0

    init(_ far: FarSide) { self.far = far }

    func hear(_ event: MessageEvent, on port: MessagePort) {
      guard let kind = try? event.load(as: UInt64.self) else { return }
      if kind == echo {
        try? port.postMessage(bitwise: kind)
        return
      }
      if received == 0 { begin = Ticks.now }
      received += 1
      if kind == last {
        try? far.send(Report(count: received, seconds: Ticks.seconds(Ticks.now - begin)))
        received = 0
      }
    }
  }
}
