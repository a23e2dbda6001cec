import MessagePorts

extension Scenario {
  /// Channels made and closed, both ends in one process.
  static let creation = Scenario(
    name: "creation",
    near: { job, _ in
      Outcome(
        try measureRate(job) {
          let channel = try MessageChannel()
          channel.port1.close()
          channel.port2.close()
        })
    },
    far: nil)
}
