import CBench
import MessagePorts

/// One way in the fast tier, with one call for many messages on both sides.
enum FastRuns {
  static func produce(_ writer: inout PortWriter, _ reader: inout PortReader, _ job: Job) throws {
    switch job.size {
    case 8: try produce(InlineArray<1, UInt64>.self, &writer, &reader, job)
    case 64: try produce(InlineArray<8, UInt64>.self, &writer, &reader, job)
    case 1024: try produce(InlineArray<128, UInt64>.self, &writer, &reader, job)
    default: throw Machine.Failure(description: "no runs of \(job.size) bytes")
    }
  }

  static func consume(
    _ writer: inout PortWriter, _ reader: inout PortReader, _ window: inout ArrivalWindow, _ job: Job
  ) throws {
    switch job.size {
    case 8: try consumeWords(&writer, &reader, &window, job)
    case 64: try consume(InlineArray<8, UInt64>.self, &writer, &reader, &window, job)
    case 1024: try consume(InlineArray<128, UInt64>.self, &writer, &reader, &window, job)
    default: throw Machine.Failure(description: "no runs of \(job.size) bytes")
    }
  }

  @inline(never)
  private static func produce<Value: PlainValue>(
    _ type: Value.Type, _ writer: inout PortWriter, _ reader: inout PortReader, _ job: Job
  ) throws {
    let buffer = MessagesBuffer<Value>(job.batch)
    var sequence: UInt64 = 0
    while try reader.tryRead(bitwise: UInt64.self) == nil {
      for index in 0..<job.batch { buffer.stamp(index, sequence &+ UInt64(index)) }
      var written = 0
      while written < job.batch {
        let more = try writer.tryWrite(contentsOf: unsafe buffer.messages.span.extracting(droppingFirst: written))
        if more == 0 { cbench_relax() }
        written += more
      }
      sequence &+= UInt64(job.batch)
    }
    buffer.stamp(0, sequence | Message.last)
    while try writer.tryWrite(contentsOf: unsafe buffer.messages.span.extracting(first: 1)) == 0 {}
  }

  @inline(never)
  private static func consume<Value: PlainValue>(
    _ type: Value.Type, _ writer: inout PortWriter, _ reader: inout PortReader, _ window: inout ArrivalWindow,
    _ job: Job
  ) throws {
    let buffer = MessagesBuffer<Value>(job.batch)
    let checker = Checker(size: job.size)
    while true {
      var values = unsafe OutputSpan(buffer: buffer.messages, initializedCount: 0)
      let count = try reader.tryRead(into: &values)
      _ = unsafe values.finalize(for: buffer.messages)
      if count == 0 { cbench_relax() }
      for index in 0..<count {
        if try unsafe checker.check(buffer.bytes(index)) { return }
        if checker.expected & 63 == 0, window.isOver(received: Int(checker.expected)) {
          _ = try writer.tryWrite(bitwise: UInt64(1))
        }
      }
    }
  }
}

extension FastRuns {
  @inline(never)
  private static func consumeWords(
    _ writer: inout PortWriter, _ reader: inout PortReader, _ window: inout ArrivalWindow, _ job: Job
  ) throws {
    let buffer = MessagesBuffer<UInt64>(job.batch)
    var expected: UInt64 = 0
    while true {
      var values = unsafe OutputSpan(buffer: buffer.messages, initializedCount: 0)
      let count = try reader.tryRead(into: &values)
      _ = unsafe values.finalize(for: buffer.messages)
      if count == 0 { cbench_relax() }
      for index in 0..<count {
        let sequence = unsafe buffer.messages[index]
        guard sequence == expected else {
          guard sequence == expected | Message.last else {
            throw Message.Damaged(description: "message \(sequence) instead of \(expected)")
          }
          return
        }
        expected &+= 1
        if expected % 64 == 0, window.isOver(received: Int(expected)) { _ = try writer.tryWrite(bitwise: UInt64(1)) }
      }
    }
  }
}

/// Room for some messages in a row, with contents as ``MessageBuffer`` has them.
@safe
private final class MessagesBuffer<Value: PlainValue> {
  @unsafe let messages: UnsafeMutableBufferPointer<Value>
  private let memory: UnsafeMutableRawBufferPointer
  private let size = MemoryLayout<Value>.stride

  init(_ count: Int) {
    unsafe memory = .allocate(byteCount: count * size + 4096, alignment: 4096)
    let start = unsafe memory.baseAddress! + 1024 + 64
    unsafe messages = UnsafeMutableBufferPointer(start: start.bindMemory(to: Value.self, capacity: count), count: count)
    let pattern = MessageBuffer(size: size)
    for index in 0..<count { unsafe (start + index * size).copyMemory(from: pattern.start, byteCount: size) }
  }

  deinit { unsafe memory.deallocate() }

  @inline(__always)
  @unsafe func bytes(_ index: Int) -> UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: messages.baseAddress! + index, count: size)
  }

  @inline(__always)
  func stamp(_ index: Int, _ sequence: UInt64) {
    let start = unsafe UnsafeMutableRawPointer(messages.baseAddress! + index)
    if size >= 16 { unsafe (start + size - 8).storeBytes(of: sequence ^ Message.tailMix, as: UInt64.self) }
    unsafe start.storeBytes(of: sequence, as: UInt64.self)
  }
}
