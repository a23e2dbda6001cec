import Foundation
import MessagePorts

extension Scenario {
  static let localMemory = Scenario(name: "memory-local", near: Memory.local, far: nil)
  static let crossingMemory = Scenario(name: "memory-crossing", near: Memory.crossing, far: Memory.holdCrossing)
}

/// What an idle port costs: resident memory before and after there are many, of the process that has more. Shared pages
/// count in full on both sides. The kernel's own memory for descriptors and sockets is not in it.
enum Memory {
  static let withHandler = "with handler"

  static func local(_ job: Job, _ near: NearSide) throws -> Outcome {
    var kept: [MessagePort] = []
    kept.reserveCapacity(2 * job.ports)
    for _ in 0..<100 {  // What the first ones cost is not what each costs.
      let channel = try MessageChannel()
      kept += [channel.port1, channel.port2]
    }
    let before = try residentBytes()
    for _ in 0..<job.ports / 2 {
      let channel = try MessageChannel()
      kept.append(channel.port1)
      kept.append(channel.port2)
    }
    let between = try residentBytes()
    for port in kept.dropFirst(200) { port.onMessage = { _ in } }
    var outcome = Outcome(Double(between - before) / Double(job.ports))
    outcome.others[withHandler] = Double(try residentBytes() - before) / Double(job.ports)
    withExtendedLifetime(kept) {}
    return outcome
  }

  static func crossing(_ job: Job, _ near: NearSide) throws -> Outcome {
    var kept: [MessagePort] = []
    kept.reserveCapacity(job.ports + 100)
    func open(_ count: Int) throws {
      for i in 1...count {
        kept.append(try near.openChannel())
        if i % 50 == 0 { try near.waitUntilReady() }
      }
    }
    try open(100)
    let before = (near: try residentBytes(), far: try residentBytes(of: near.processIdentifier))
    try open(job.ports)
    usleep(50_000)  // The far loop has armed the last ones and sleeps.
    let after = (near: try residentBytes(), far: try residentBytes(of: near.processIdentifier))
    withExtendedLifetime(kept) {}
    var outcome = Outcome(Double(after.near - before.near) / Double(job.ports))
    outcome.others[withHandler] = Double(after.far - before.far) / Double(job.ports)
    return outcome
  }

  static func holdCrossing(_ job: Job, _ far: FarSide) throws {
    var kept: [MessagePort] = []
    kept.reserveCapacity(job.ports + 100)
    while true {
      let port = try far.nextPort()
      port.onMessage = { _ in }
      kept.append(port)
      if kept.count % 50 == 0 { try far.sayReady() }
    }
  }

  private static func residentBytes(of process: Int32? = nil) throws -> Int {
    let path = "/proc/\(process.map(String.init) ?? "self")/smaps_rollup"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    for line in text.split(separator: "\n") where line.hasPrefix("Rss:") {
      if let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) { return kibibytes * 1024 }
    }
    throw Machine.Failure(description: "no Rss in \(path)")
  }
}
