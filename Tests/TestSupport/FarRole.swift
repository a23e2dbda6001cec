import Glibc
import MessagePorts
import Synchronization

/// What the far end of a test's channel does, in this process or another. A port that no handler keeps is kept by
/// ``Kept``, unless the role is to let go of it.
public enum FarRole: String, Sendable {
  /// Sends everything back, ports included.
  case echo
  /// Keeps the port, never starts it.
  case hold
  /// Takes everything and does nothing with it.
  case sink
  /// Lets go of the port.
  case drop
  /// Closes the port.
  case close
  /// Arguments: count. Posts the numbers 0 ..< count, and closes.
  case pour
  /// Arguments: threads, count. Each thread posts (thread, number) count times; closes when all have.
  case pourFromThreads
  /// Arguments: seed. Posts messages of `Payload.sizes(seed:)`, and closes.
  case pourSizes
  /// Arguments: seed. Receives messages of `Payload.sizes(seed:)`; answers with how many were right, up to the first
  /// that was not.
  case checkSizes
  /// Arguments: threads, count. Receives (thread, number); answers with how many were in their thread's order.
  case checkThreads
  /// Posts (number) on the first port and then, once that is complete, on the second, while it lives, but no more than
  /// ``window`` beyond what was acknowledged on the second.
  case pourForEver
  /// As ``pourForEver``, with messages of all sizes up to 300,000 bytes.
  case pourSizesForEver
  /// Makes a connection of the port, and answers requests: see ``RequestService``.
  case serve

  public func play(on ports: [MessagePort], _ arguments: [Int]) {
    guard let port = ports.first else { return }
    switch self {
    case .echo:
      port.onMessage = { [weak port] event in
        try? port?.postMessage(
          bytes: event.bytes, transfer: event.ports, descriptors: event.descriptors, buffers: event.buffers)
      }
    case .hold: Kept.keep(port)
    case .sink: port.onMessage = { _ in }
    case .drop: break
    case .close: port.close()
    case .pour: inBackground { Self.pour(port, count: arguments[0]) }
    case .pourFromThreads: inBackground { try Self.pourFromThreads(port, arguments[0], count: arguments[1]) }
    case .pourSizes: inBackground { Self.pourSizes(port, seed: arguments[0]) }
    case .checkSizes: inBackground { try Self.checkSizes(port, seed: arguments[0]) }
    case .checkThreads: Self.checkThreads(port, arguments[0], count: arguments[1])
    case .pourForEver: inBackground { Self.pourForEver(port, ports[1]) { _ in 8 } }
    case .pourSizesForEver: inBackground { Self.pourForEver(port, ports[1], size: Self.killSize) }
    case .serve: RequestService.serve(Connection(over: port))
    }
  }

  private func inBackground(_ body: @escaping @Sendable () throws -> Void) {
    _ = TestThread {
      do { try body() } catch { print("far end: \(self) failed: \(error)") }
    }
  }

  // MARK: Posting

  private static func pour(_ port: MessagePort, count: Int) {
    for number in 0..<count { try? port.postMessage(bitwise: number) }
    port.close()
  }

  private static func pourFromThreads(_ port: MessagePort, _ threads: Int, count: Int) throws {
    try postFromThreads(port, threads, count: count)
    port.close()
  }

  /// Posts ``Numbered`` messages from several threads at once, of a size that depends on the number.
  public static func postFromThreads(_ port: MessagePort, _ threads: Int, count: Int) throws {
    try onThreads(threads) { thread in
      for number in 0..<count { try port.postMessage(bytes: Numbered(thread: thread, number: number).bytes) }
    }
  }

  private static func pourSizes(_ port: MessagePort, seed: Int) {
    postSizes(port, seed: seed)
    port.close()
  }

  public static func postSizes(_ port: MessagePort, seed: Int) {
    for (index, size) in Payload.sizes(seed: seed).enumerated() {
      try? port.postMessage(bytes: Payload.make(index, byteCount: size))
    }
  }

  /// The size of message `number` of ``pourSizesForEver``; the first eight bytes are the number.
  public static func killSize(_ number: Int) -> Int {
    var random = SeededGenerator(seed: number)
    return 8 + Int.random(in: 0...(number % 4 == 0 ? 300_000 : 2000), using: &random)
  }

  public static let window = 256

  /// Message `number` of the two roles that go on for ever.
  public static func killMessage(_ number: Int, byteCount: Int) -> [UInt8] {
    var bytes = Payload.make(number, byteCount: byteCount)
    unsafe withUnsafeBytes(of: number) { unsafe bytes.replaceSubrange(0..<8, with: $0) }
    return bytes
  }

  private static func pourForEver(_ port: MessagePort, _ confirmations: MessagePort, size: (Int) -> Int) {
    var number = 0, limit = window
    while true {
      while number == limit {
        guard let acknowledged = try? confirmations.receive().load(as: Int.self) else { return }
        limit = acknowledged + window
      }
      try? port.postMessage(bytes: killMessage(number, byteCount: size(number)))
      try? confirmations.postMessage(bitwise: number)
      number += 1
    }
  }

  // MARK: Checking

  private static func checkSizes(_ port: MessagePort, seed: Int) throws {
    try port.postMessage(bitwise: countRightSizes(seed: seed) { try port.receiveSoon().bytes })
    Kept.keep(port)
  }

  /// How many of the messages of `Payload.sizes(seed:)` came as they were posted, up to the first that did not.
  public static func countRightSizes(seed: Int, next: () throws -> [UInt8]) throws -> Int {
    var count = 0
    for (index, size) in Payload.sizes(seed: seed).enumerated() {
      guard Payload.matches(try next(), index, byteCount: size) else {
        print("message \(index) of \(size) bytes, seed \(seed), is not what was posted")
        return count
      }
      count += 1
    }
    return count
  }

  private static func checkThreads(_ port: MessagePort, _ threads: Int, count: Int) {
    let check = ThreadOrder(threads: threads, count: count)
    port.onMessage = { [weak port] event in
      if check.isComplete(after: event) { try? port?.postMessage(bitwise: check.inOrder) }
    }
  }
}

/// Message `number` of thread `thread`.
public struct Numbered: Sendable {
  public let thread: Int
  public let number: Int

  public init(thread: Int, number: Int) {
    self.thread = thread
    self.number = number
  }

  public var bytes: [UInt8] {
    var bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 16 + number % 97)
    unsafe withUnsafeBytes(of: (thread, number)) { unsafe bytes.replaceSubrange(0..<16, with: $0) }
    return bytes
  }

  public init?(_ bytes: [UInt8]) {
    guard bytes.count >= 16 else { return nil }
    (thread, number) = unsafe bytes.withUnsafeBytes {
      unsafe ($0.loadUnaligned(as: Int.self), $0.loadUnaligned(fromByteOffset: 8, as: Int.self))
    }
    guard bytes == self.bytes else { return nil }
  }
}

/// Counts the messages that come in the order of the thread that has posted them.
public final class ThreadOrder: Sendable {
  private let state: Mutex<(next: [Int], received: Int, inOrder: Int)>
  private let total: Int

  public init(threads: Int, count: Int) {
    state = Mutex(([Int](repeating: 0, count: threads), 0, 0))
    total = threads * count
  }

  public var inOrder: Int { state.withLock { $0.inOrder } }

  /// Notes a message; `true` if it was the last.
  public func isComplete(after event: MessageEvent) -> Bool {
    let message = Numbered(event.bytes)
    return state.withLock { state in
      state.received += 1
      if let message, state.next.indices.contains(message.thread), state.next[message.thread] == message.number {
        state.next[message.thread] += 1
        state.inOrder += 1
      }
      return state.received == total
    }
  }
}
