import Glibc
import MessagePorts
import Synchronization

/// What the far end of a test answers, in this process or another.
public final class RequestService: Sendable {
  public struct Refused: Error, CustomStringConvertible {
    public var description: String
  }
  public enum Typed: Error, Codable, Equatable {
    case code(Int)
  }
  /// Its own encoding fails.
  public struct Unspeakable: Error, Codable, CustomStringConvertible {
    public init() {}
    public func encode(to encoder: any Encoder) throws { throw Refused(description: "no") }
    public var description: String { "unspeakable" }
  }

  public static func register() {
    RemoteError.register(Typed.self, as: "typed")
    RemoteError.register(Unspeakable.self)
  }

  /// In the order in which they came: messages "note", and requests "note".
  private let notes = Mutex<[Int]>([])
  private let barrier = Barrier()
  /// Answers on a task of its own, as any actor does.
  private let counter = Counter()

  /// Holds the callers until enough have come, then lets them go, the last one first.
  actor Barrier {
    private var waiters: [CheckedContinuation<Void, Never>] = []
    func wait(for count: Int) async {
      await withCheckedContinuation { continuation in
        waiters.append(continuation)
        guard waiters.count == count else { return }
        for waiter in waiters.reversed() { waiter.resume() }
        waiters = []
      }
    }
  }

  actor Counter {
    private var total = 0
    func add(_ number: Int) -> Int {
      preconditionIsolated()
      total += number
      return total
    }
  }

  /// Goes with the connection's handlers.
  public static func serve(_ connection: Connection, limit: Int? = nil) {
    register()
    let service = RequestService()
    if let limit { connection.maximumConcurrentRequests = limit }
    connection.handle { registration in
      registration.on("note", of: Int.self) { number, _ in service.notes.withLock { $0.append(number) } }
      registration.on("fall") { _ in kill(getpid(), SIGKILL) }
      registration.on("close") { event in event.connection.close() }
      registration.onRequest("double", of: Int.self) { number, _ in number * 2 }
      service.registerOutcomes(&registration)
      service.registerWaits(&registration)
      registration.onRequest("note", of: Int.self) { number, _ in
        service.notes.withLock { $0.append(number) }
        await Task.yield()
        return number
      }
      registration.onRequest("notes", of: Int.self) { _, _ in service.notes.withLock { $0 } }
      registration.onRequest("add", of: Int.self) { number, _ in await service.counter.add(number) }
      // Asks the asker, which asks in turn.
      registration.onRequest("ask back", of: Int.self) { depth, context in
        depth == 0 ? 0 : try await context.connection.request("ask back", depth - 1, as: Int.self) + 1
      }
      registration.onRequest(bytes: "echo") { context in
        context.transfer(context.ports, descriptors: context.descriptors, buffers: context.buffers)
        return context.bytes
      }
      service.registerStreams(&registration)
      service.registerParcels(&registration)
    }
  }

  private func registerOutcomes(_ registration: inout Connection.Registration) {
    registration.onRequest("refuse", of: String.self) { text, _ -> Int in throw Refused(description: text) }
    registration.onRequest("refuse typed", of: Int.self) { code, _ -> Int in throw Typed.code(code) }
    registration.onRequest("refuse unspeakably", of: Int.self) { _, _ -> Int in throw Unspeakable() }
    registration.onRequest("large", of: Int.self) { size, _ in [UInt8](repeating: 7, count: size) }
    registration.onRequest("ports", of: Int.self) { count, context in
      for _ in 0..<count {
        let channel = try MessageChannel()
        try channel.port1.postMessage(bitwise: 5 as UInt64)
        context.transfer([channel.port2])
      }
      return count
    }
    registration.onRequest("bad ports", of: Int.self) { _, context in
      let channel = try MessageChannel()
      context.transfer([channel.port1, channel.port1])
      return 0
    }
  }

  private func registerWaits(_ registration: inout Connection.Registration) {
    registration.onRequest("meet", of: Int.self) { count, _ in
      await self.barrier.wait(for: count)
      return count
    }
    // Says when it has begun, and when it was cancelled.
    registration.onRequest("hang", of: Int.self) { number, context in
      try context.connection.postMessage("begun", number)
      await untilCancelled()
      try context.connection.postMessage("cancelled", number)
      return number
    }
    registration.onRequest("hang quietly", of: Int.self) { number, _ in
      await untilCancelled()
      return number
    }
    registration.onRequest("sleep", of: Int.self) { milliseconds, _ in
      try await Task.sleep(for: .milliseconds(milliseconds))
      return milliseconds
    }
  }

  private func registerStreams(_ registration: inout Connection.Registration) {
    registration.onStream("count", of: Int.self) { count, writer in
      for number in 0..<count { try await writer.send(number) }
    }
    registration.onStream("count and finish", of: Int.self) { count, writer in
      for number in 0..<count { try await writer.send(number) }
      writer.finish()
      do { try await writer.send(-1) } catch { try writer.context?.connection.postMessage("refused", "\(error)") }
    }
    registration.onStream("count and refuse", of: Int.self) { count, writer in
      for number in 0..<count { try await writer.send(number) }
      throw Typed.code(count)
    }
    registration.onStream("count and fall", of: Int.self) { count, writer in
      for number in 0..<count { try await writer.send(number) }
      kill(getpid(), SIGKILL)
    }
    // Says how many it has sent by the time it cannot any more, and why.
    registration.onStream("pour", of: Int.self) { size, writer in
      var count = 0
      do {
        while true {
          try await writer.send([UInt8](repeating: 1, count: size))
          count += 1
        }
      } catch {
        try? writer.context?.connection.postMessage("poured", "\(count) \(error)")
        throw error
      }
    }
    registration.onStream("sizes", of: [Int].self) { sizes, writer in
      for size in sizes { try await writer.send([UInt8](repeating: UInt8(truncatingIfNeeded: size), count: size)) }
    }
    registration.onStream("squares", ofEach: Int.self) { numbers, writer in
      for try await number in numbers { try await writer.send(number * number) }
    }
    registration.onStream("sum", ofEach: Int.self) { numbers, writer in
      var sum = 0
      do {
        for try await number in numbers { sum += number }
      } catch let error as Typed {
        try await writer.send("\(error)")
        return
      }
      try await writer.send("\(sum)")
    }
    registration.onStream("first", ofEach: Int.self) { numbers, writer in
      for try await number in numbers {
        try await writer.send(number)
        break
      }
    }
  }
}

extension RequestService {
  /// Streams whose elements take something along.
  fileprivate func registerParcels(_ registration: inout Connection.Registration) {
    // Each element as large as asked for, with a port, a descriptor and a buffer, all of which tell its number.
    registration.onStream("parcels", of: [Int].self) { sizes, writer in
      for (number, size) in sizes.enumerated() {
        let number = UInt64(number)
        let channel = try MessageChannel()
        try channel.port1.postMessage(bitwise: number)
        try await writer.send(
          [UInt8](repeating: UInt8(number), count: size), transfer: [channel.port2],
          descriptors: [TestPipe.readable(containing: number)],
          buffers: [.frozen(FrozenBuffer(copying: patternBytes(count: 1000, seed: number)))])
      }
    }
    registration.onStream("descriptors", of: Int.self) { count, writer in
      let pipe = try TestPipe()
      for number in 0..<count { try await writer.send(number, descriptors: [pipe.reader.duplicate()]) }
    }
    // The last element is sent once nobody has what came with the others.
    registration.onStream("pipes", of: Int.self) { count, writer in
      var pipes: [TestPipe] = []
      for number in 0..<count {
        let pipe = try TestPipe()
        pipes.append(pipe)
        try await writer.send(number, descriptors: [pipe.writer])
      }
      for pipe in pipes { try await pipe.expectWritersClosed() }
      try await writer.send(count)
    }
    // What is refused, small and in parts, goes with another element.
    registration.onStream("refused parcels", of: Int.self) { size, writer in
      let pipe = try TestPipe.readable(containing: 5)
      let closed = try FrozenBuffer(copying: [1])
      closed.close()
      do throws(PortError) {
        try await writer.send([UInt8](repeating: 1, count: size), descriptors: [pipe], buffers: [.frozen(closed)])
      } catch {
        guard case .invalidBuffer(index: 0, .isClosed) = error else { throw error }
        try await writer.send([7 as UInt8], descriptors: [pipe])
      }
    }
  }
}

/// Returns once the task is cancelled.
public func untilCancelled() async {
  let (never, continuation) = AsyncStream.makeStream(of: Never.self)
  for await _ in never {}
  continuation.finish()
}
