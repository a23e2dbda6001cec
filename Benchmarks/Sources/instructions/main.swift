import Dispatch
import Glibc
import MessagePorts

// Small loops for check-instructions.sh, which counts their instructions. `instructions fast-write 20000` writes that
// many messages of 8 bytes; the other loops likewise. What precedes the loop is the same whatever the number, so the
// difference between two numbers is the loop alone.

/// More than any loop takes, and less than a ring holds that a port keeps as it is.
let prepared = 40_000
let options = ChannelOptions(laneCapacityBytes: (1 << 20) - (1 << 16))

@inline(never)
func fastWriteLoop(_ writer: inout PortWriter, _ count: Int) throws {
  for value in 0..<count where try !writer.tryWrite(bitwise: UInt64(truncatingIfNeeded: value)) { _exit(2) }
}

@inline(never)
func fastReadLoop(_ reader: inout PortReader, _ count: Int) throws -> UInt64 {
  var sum: UInt64 = 0
  for _ in 0..<count {
    guard let value = try reader.tryRead(bitwise: UInt64.self) else { _exit(3) }
    sum &+= value
  }
  return sum
}

@inline(never)
func portPostLoop(_ port: MessagePort, _ count: Int) throws {
  for value in 0..<count { try port.postMessage(bitwise: UInt64(truncatingIfNeeded: value)) }
}

@inline(never)
func portReceiveLoop(_ port: MessagePort, _ count: Int) throws -> UInt64 {
  var sum: UInt64 = 0
  for _ in 0..<count { sum &+= try port.receive().load(as: UInt64.self) }
  return sum
}

/// Handlers run on one loop, one at a time.
final class Countdown: @unchecked Sendable {
  private var remaining: Int
  private var sum: UInt64 = 0
  init(_ count: Int) { remaining = count }

  func take(_ event: MessageEvent) {
    sum &+= (try? event.load(as: UInt64.self)) ?? 0
    remaining -= 1
    if remaining == 0 { _exit(0) }
  }
}

/// Both ends on one loop, and in this process: what a request costs without the way there and back.
func request(_ count: Int) throws {
  let channel = try MessageChannel()
  let server = Connection(over: channel.port2)
  server.onRequest(bytes: "echo") { context in context.bytes }
  let client = Connection(over: channel.port1)
  Task(executorPreference: EventLoop.default) {
    let question = [UInt8](repeating: 0, count: 8)
    for _ in 0..<count { _ = try await client.request("echo", bytes: question) }
    _exit(0)
  }
  DispatchSemaphore(value: 0).wait()
}

func run(_ loop: String, _ count: Int) throws {
  let channel = try MessageChannel(options: options)
  let sending = try channel.port1.split()
  let receiving = try channel.port2.split()
  var writer = sending.takeWriter()
  var reader = receiving.takeReader()
  switch loop {
  case "fast-write":
    reader.startPolling()
    try fastWriteLoop(&writer, count)
  case "fast-read":
    try fastWriteLoop(&writer, prepared)
    _ = try fastReadLoop(&reader, count)
  default:
    let sender = try MessagePort(joining: writer, sending.takeReader())
    let receiver = try MessagePort(joining: receiving.takeWriter(), reader)
    switch loop {
    case "port-post": try portPostLoop(sender, count)
    case "port-receive":
      try portPostLoop(sender, prepared)
      _ = try portReceiveLoop(receiver, count)
    case "port-deliver":
      try portPostLoop(sender, prepared)
      let countdown = Countdown(count)
      receiver.onMessage = { event in countdown.take(event) }
      DispatchSemaphore(value: 0).wait()
    case "port-sequence":
      try portPostLoop(sender, prepared)
      let countdown = Countdown(count)
      Task(executorPreference: EventLoop.default) { for try await event in receiver.messages { countdown.take(event) } }
      DispatchSemaphore(value: 0).wait()
    case "port-request":
      try request(count)
    default: break
    }
    _exit(0)
  }
  _exit(0)
}

guard CommandLine.arguments.count == 3, let count = Int(CommandLine.arguments[2]), count <= prepared else { _exit(1) }
try run(CommandLine.arguments[1], count)
