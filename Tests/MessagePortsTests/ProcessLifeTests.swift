import MessagePorts
import TestSupport
import Testing

@Suite("5.5 The life of a process", .ownThread, .timeLimit(.minutes(10)))
struct ProcessLifeTests {
  @Test(
    "5.5 A process may exit with open ports at any time, in the middle of traffic, without crashing",
    arguments: [ExitRole.Way.exit, .mainReturns, .exitInHandler])
  func exitInTraffic(_ way: ExitRole.Way) async throws {
    for round in 0..<6 {
      let worker = try PeerProcess.spawn("exits", [way.rawValue, "\(round)"])
      let received = Collected<Int>(), closed = Promise<CloseReason>()
      worker.connection.on("port") { event in
        for port in event.ports {
          port.onClose = { reason in closed.fulfil(reason) }
          port.onMessage = { [weak port] event in
            received.append((try? event.load(as: Int.self)) ?? -1)
            // Traffic in the other direction as well.
            try? port?.postMessage(bytes: event.bytes)
          }
        }
      }
      _ = try closed.wait()
      let numbers = received.all
      #expect(numbers == Array(0..<numbers.count))
      #expect(await worker.exitStatus == .exited(CInt(round)))
    }
  }
}
