import MessagePorts

extension Scenario {
  static let transfer = Scenario(name: "transfer", near: Transfer.pass, far: Transfer.answer)
}

/// A channel made, one port posted to the far process, its first message received on the other, closed; `batch` of them
/// under way at once.
enum Transfer {
  static func pass(_ job: Job, _ near: NearSide) throws -> Outcome {
    let options = ChannelOptions(spinPolicy: job.looksAround ? .adaptive : .never)
    let control = try near.openChannel(options)
    try near.waitUntilReady()
    var underway: [MessagePort] = []
    for _ in 0..<job.batch { underway.append(try pass(on: control, options)) }
    var oldest = 0
    let rate = try measureRate(job) {
      try finish(underway[oldest])
      underway[oldest] = try pass(on: control, options)
      oldest = (oldest + 1) % job.batch
    }
    for port in underway { try finish(port) }
    return Outcome(rate)
  }

  private static func pass(on control: MessagePort, _ options: ChannelOptions) throws -> MessagePort {
    let channel = try MessageChannel(options: options)
    try control.postMessage(bitwise: UInt64(0), transfer: [channel.port2])
    return channel.port1
  }

  private static func finish(_ port: MessagePort) throws {
    guard try port.receive().load(as: UInt64.self) == 1 else { throw Message.Damaged(description: "a wrong answer") }
    port.close()
  }

  static func answer(_ job: Job, _ far: FarSide) throws {
    let control = try far.nextPort()
    if job.receive == .handler {
      control.onMessage = { event in try? answer(event) }
      try far.sayReady()
    } else {
      try far.sayReady()
      while let event = try? control.receive() { try answer(event) }  // It ends with the near process.
    }
  }

  private static func answer(_ event: MessageEvent) throws {
    try event.ports[0].postMessage(bitwise: UInt64(1))
    event.ports[0].close()
  }
}
