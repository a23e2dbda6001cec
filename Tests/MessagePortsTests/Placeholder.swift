import MessagePorts
import Testing

@Suite(.timeLimit(.minutes(1))) struct Smoke {
  @Test func local() async throws {
    let channel = try MessageChannel()
    let (stream, c) = AsyncStream.makeStream(of: Int.self)
    channel.port1.onMessage = { e in c.yield((try? e.load(as: Int.self)) ?? -1) }
    channel.port1.onClose = { r in print(r); c.finish() }
    for i in 0..<10 { try channel.port2.postMessage(bitwise: i) }
    channel.port2.close()
    var got: [Int] = []
    for await x in stream { got.append(x) }
    #expect(got == Array(0..<10))
  }
  @Test func transferLocal() async throws {
    let a = try MessageChannel(), b = try MessageChannel()
    try b.port2.postMessage(bitwise: 1)
    try a.port1.postMessage(bitwise: 7, transfer: [b.port1])
    try b.port2.postMessage(bitwise: 2)
    #expect(b.port1.isDetached)
    let e = try a.port2.receive(timeout: .seconds(1))
    let p = e.ports[0]
    #expect(try p.receive(timeout: .seconds(1)).load(as: Int.self) == 1)
    #expect(try p.receive(timeout: .seconds(1)).load(as: Int.self) == 2)
    b.port2.close()
    #expect(throws: PortError.self) { try p.receive(timeout: .seconds(1)) }
  }
}
