import MessagePorts
import TestSupport
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
import Foundation
@Suite(.timeLimit(.minutes(1)), .serialized) struct Cross {
  @Test func echo() async throws {
    let path = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    print(path, CommandLine.arguments)
    let worker = try PeerProcess.spawn("echo")
    let c = try MessageChannel()
    try c.port1.postMessage(bitwise: 41)
    try worker.connection.postMessage("port", transfer: [c.port2])
    try c.port1.postMessage(bitwise: 42)
    #expect(try c.port1.receive(timeout: .seconds(5)).load(as: Int.self) == 41)
    #expect(try c.port1.receive(timeout: .seconds(5)).load(as: Int.self) == 42)
    let big = [UInt8](repeating: 7, count: 20_000_000)
    try c.port1.postMessage(bytes: big)
    #expect(try c.port1.receive(timeout: .seconds(20)).bytes == big)
    let t = ContinuousClock.now
    for i in 0..<1000 { try c.port1.postMessage(bitwise: i); #expect(try c.port1.receive(timeout: .seconds(5)).load(as: Int.self) == i) }
    print("rtt", (ContinuousClock.now - t) / 1000)
    let d = try MessageChannel()
    try d.port2.postMessage(bitwise: 5)
    try c.port1.postMessage(bytes: [], transfer: [d.port1])
    let back = try c.port1.receive(timeout: .seconds(5)).ports[0]
    #expect(try back.receive(timeout: .seconds(5)).load(as: Int.self) == 5)
    try back.postMessage(bitwise: 6)
    #expect(try d.port2.receive(timeout: .seconds(5)).load(as: Int.self) == 6)
    worker.kill()
    let s = await worker.exitStatus
    print(s)
    #expect(throws: PortError.self) { try c.port1.receive(timeout: .seconds(5)) }
  }
  @Test func connect() async throws {
    let l = try Listener(path: "/tmp/mp-test.sock")
    let client = try await Connection.connect(path: "/tmp/mp-test.sock")
    try client.postMessage("hello", [1,2,3])
    var it = l.connections.makeAsyncIterator()
    let server = await it.next()!
    let (s, k) = AsyncStream.makeStream(of: ConnectionEvent.self)
    server.on("hello") { k.yield($0) }
    server.onClose = { print("closed", $0); k.finish() }
    client.close()
    for await e in s { print(e.name, e.bytes) }
    l.close()
  }
}
