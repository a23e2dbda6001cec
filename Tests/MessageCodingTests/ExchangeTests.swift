import MessageCoding
import MessagePortsFoundation
import Testing

/// Code that exchanges the readers or writers of two messages, of which one ends first. The program ends there, before
/// anybody uses memory that is gone.
@Suite("Exchanged readers and writers")
struct ExchangeTests {
  @Test("A value that leaves another message's reader behind ends the program")
  func readers() async throws {
    let result = try await #require(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try decodeNothing(as: OuterValue.self)
    }
    #expect(text(result).contains("value reader was exchanged"), "\(text(result))")
  }

  @Test("So does a closure that leaves the entries of another one behind")
  func entryReaders() async throws {
    let result = try await #require(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try decodeNothing(as: OuterEntries.self)
    }
    #expect(text(result).contains("value reader was exchanged"), "\(text(result))")
  }

  @Test("A value that leaves another message's writer behind ends the program")
  func writers() async throws {
    let result = try await #require(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try BinaryMessageCoder().encode(OuterValue())
    }
    #expect(text(result).contains("value writer was exchanged"), "\(text(result))")
  }

  @Test("So does a closure that leaves the entries of another one behind, when it writes")
  func entryWriters() async throws {
    let result = try await #require(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      _ = try BinaryMessageCoder().encode(OuterEntries())
    }
    #expect(text(result).contains("value writer was exchanged"), "\(text(result))")
  }

  private func text(_ result: ExitTest.Result) -> String {
    String(decoding: result.standardErrorContent, as: UTF8.self)
  }
}

private func decodeNothing<Value: MessageValue>(as type: Value.Type) throws -> Value {
  let bytes = try BinaryMessageCoder().encode([:] as [String: Int])
  return try unsafe BinaryMessageCoder().decode(type, from: bytes.span.bytes)
}

/// What an outer value lends to an inner one: its reader, under the name of a closure that exchanges it.
private final class Lent<Argument: ~Copyable> {
  var exchange: ((inout Argument) -> Void)?

  func lend(_ exchange: (inout Argument) -> Void, during body: () throws -> Void) rethrows {
    try withoutActuallyEscaping(exchange) { exchange in
      self.exchange = exchange
      defer { self.exchange = nil }
      try body()
    }
  }
}

nonisolated(unsafe) private let lentReader = Lent<ValueReader>()
nonisolated(unsafe) private let lentEntryReader = Lent<EntryReader>()
nonisolated(unsafe) private let lentWriter = Lent<ValueWriter>()
nonisolated(unsafe) private let lentEntryWriter = Lent<EntryWriter>()

private struct OuterValue: MessageValue {
  init() {}
  init(from decoder: any Decoder) {}
  func encode(to encoder: any Encoder) {}

  init(from reader: inout ValueReader) throws {
    try unsafe lentReader.lend({ swap(&reader, &$0) }) { _ = try decodeNothing(as: InnerValue.self) }
  }

  func write(to writer: inout ValueWriter) {
    unsafe lentWriter.lend({ swap(&writer, &$0) }) { _ = try? BinaryMessageCoder().encode(InnerValue()) }
  }
}

private struct InnerValue: MessageValue {
  init() {}
  init(from decoder: any Decoder) {}
  func encode(to encoder: any Encoder) {}

  init(from reader: inout ValueReader) throws { unsafe lentReader.exchange?(&reader) }

  func write(to writer: inout ValueWriter) { unsafe lentWriter.exchange?(&writer) }
}

private struct OuterEntries: MessageValue {
  init() {}
  init(from decoder: any Decoder) {}
  func encode(to encoder: any Encoder) {}

  init(from reader: inout ValueReader) throws {
    try reader.readEntries { entries in
      try unsafe lentEntryReader.lend({ swap(&entries, &$0) }) { _ = try decodeNothing(as: InnerEntries.self) }
    }
  }

  func write(to writer: inout ValueWriter) {
    writer.writeEntries { entries in
      unsafe lentEntryWriter.lend({ swap(&entries, &$0) }) { _ = try? BinaryMessageCoder().encode(InnerEntries()) }
    }
  }
}

private struct InnerEntries: MessageValue {
  init() {}
  init(from decoder: any Decoder) {}
  func encode(to encoder: any Encoder) {}

  init(from reader: inout ValueReader) throws {
    try reader.readEntries { entries in unsafe lentEntryReader.exchange?(&entries) }
  }

  func write(to writer: inout ValueWriter) {
    writer.writeEntries { entries in unsafe lentEntryWriter.exchange?(&entries) }
  }
}
