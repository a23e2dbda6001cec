import Glibc
import MessagePorts

extension Scenario {
  static let death = Scenario(name: "death", near: Death.notice, far: Death.wait)
}

/// How long after `kill` of the far process, which sleeps, the near one is told: by a handler on the loop, or by a thread
/// that waits for a message. Once per far process.
enum Death {
  static func notice(_ job: Job, _ first: NearSide) throws -> Outcome {
    var histogram = LatencyHistogram()
    var victim = first
    for round in 0..<job.batch {
      if round > 0 { victim = try NearSide(job) }
      let port = try victim.openChannel(ChannelOptions(spinPolicy: .never))
      try victim.waitUntilReady()
      usleep(5_000)  // It sleeps by now.
      let noticed = Mailbox<UInt64>()
      if job.receive == .handler { port.onClose = { _ in noticed.put(Ticks.now) } }
      let before = Ticks.now
      victim.kill()
      if job.receive == .handler {
        histogram.record(nanoseconds: Ticks.seconds(try noticed.take() - before) * 1e9)
      } else {
        do { _ = try port.receive() } catch { noticed.put(Ticks.now) }
        histogram.record(nanoseconds: Ticks.seconds(try noticed.take() - before) * 1e9)
      }
      withExtendedLifetime(port) {}
    }
    return Outcome(histogram)
  }

  static func wait(_ job: Job, _ far: FarSide) throws {
    let port = try far.nextPort()
    try far.sayReady()
    while true { _ = try port.receive() }
  }
}
