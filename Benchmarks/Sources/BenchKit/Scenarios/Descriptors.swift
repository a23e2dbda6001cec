import Glibc
import MessagePorts

extension Scenario {
  static let descriptors = Scenario(name: "descriptors", near: Descriptors.pass, far: Descriptors.answer)
}

/// A pair of sockets made, one of them posted to the far process as a descriptor, a byte received on the other, closed;
/// `batch` of them under way at once.
enum Descriptors {
  static func pass(_ job: Job, _ near: NearSide) throws -> Outcome {
    let control = try near.openChannel(ChannelOptions(spinPolicy: job.looksAround ? .adaptive : .never))
    try near.waitUntilReady()
    var underway: [CInt] = []
    for _ in 0..<job.batch { underway.append(try pass(on: control)) }
    var oldest = 0
    let rate = try measureRate(job) {
      try finish(underway[oldest])
      underway[oldest] = try pass(on: control)
      oldest = (oldest + 1) % job.batch
    }
    for socket in underway { try finish(socket) }
    return Outcome(rate)
  }

  private static func pass(on control: MessagePort) throws -> CInt {
    var ends: [CInt] = [-1, -1]
    let type = CInt(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
    guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else {
      throw Machine.Failure(description: "socketpair: \(errno)")
    }
    try control.postMessage(bitwise: UInt64(0), descriptors: [Descriptor(owning: ends[1])])
    return ends[0]
  }

  private static func finish(_ socket: CInt) throws {
    var byte: UInt8 = 0
    guard unsafe read(socket, &byte, 1) == 1, byte == 1 else { throw Message.Damaged(description: "a wrong answer") }
    close(socket)
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
    let socket = try event.descriptors[0].take()
    var byte: UInt8 = 1
    guard unsafe write(socket, &byte, 1) == 1 else { throw Machine.Failure(description: "write: \(errno)") }
    close(socket)
  }
}
