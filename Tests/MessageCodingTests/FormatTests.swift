import MessageCoding
import Testing

@Suite("Format")
struct FormatTests {
  /// These bytes are a promise to the other process, which may have another version of this module.
  @Test("Messages are, byte for byte, as the format says")
  func bytes() throws {
    #expect(try coder.encode(5) == [0xB1, 0x05])
    #expect(try coder.encode(-1) == [0xB1, 0xD0, 0xFF])
    #expect(try coder.encode(200) == [0xB1, 0xD1, 0xC8, 0x00])
    #expect(try coder.encode(70_000) == [0xB1, 0xD2, 0x70, 0x11, 0x01, 0x00])
    #expect(try coder.encode(UInt64.max) == [0xB1, 0xD8] + [UInt8](repeating: 0xFF, count: 8))
    #expect(try coder.encode("hé") == [0xB1, 0x83, 0x68, 0xC3, 0xA9])
    #expect(try coder.encode(Bool?.none) == [0xB1, 0xC0])
    #expect(try coder.encode(true) == [0xB1, 0xC2])
    #expect(try coder.encode(1.0) == [0xB1, 0xDB, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F])
    #expect(try coder.encode(Float(1)) == [0xB1, 0xDA, 0, 0, 0x80, 0x3F])
    #expect(
      try coder.encode([UInt16(1), 2]) == message([0xC5, 13, 0, 0, 0, 2, 0, 0, 0, 0xE6, 2, 0, 0, 0, 1, 0, 2, 0]))
    #expect(try coder.encode(["a", "b"]) == message(unkeyed([[0x81, 0x61], [0x81, 0x62]])))
    #expect(try coder.encode([Int]()) == message(unkeyed([])))
    #expect(
      try coder.encode(Position(x: 0, y: 0))
        == message(
          keyed([("x", [0xDB] + [UInt8](repeating: 0, count: 8)), ("y", [0xDB] + [UInt8](repeating: 0, count: 8))])))
    let text = String(repeating: "t", count: 64)
    #expect(try coder.encode(text) == message([0xC3, 64, 0, 0, 0] + Array(text.utf8)))
    let key = String(repeating: "k", count: 255)
    #expect(
      try coder.encode([key: 1]) == message([0xC4, 5, 1, 0, 0, 0xFF, 255, 0, 0, 0] + Array(key.utf8) + [1]))
  }

  @Test("A message of another version is refused with the names of both versions")
  func version() throws {
    let description = try #require(corruption { try decode(Int.self, [0xB2, 5]) })
    #expect(description.contains("0xb2") && description.contains("0xb1"))
    #expect(corruption { try decode(Int.self, []) } == "The message is empty.")
    #expect(corruption { try decode(Int.self, [0xB1]) } != nil)
  }

  @Test("Bytes after the value are refused")
  func trailingBytes() throws {
    let bytes = try coder.encode(Item.example)
    #expect(corruption { try decode(Item.self, bytes + [0]) } == "The message has 1 bytes after its value.")
    #expect(corruption { try decode(Int.self, [0xB1, 5, 5]) } == "The message has 1 bytes after its value.")
  }

  @Test("Every form of an integer is read, not only the shortest")
  func longForms() throws {
    #expect(try decode(Int.self, [0xB1, 0xD3, 5, 0, 0, 0, 0, 0, 0, 0]) == 5)
    #expect(try decode(UInt8.self, [0xB1, 0xD9, 5] + [UInt8](repeating: 0, count: 15)) == 5)
    #expect(try decode(Double.self, [0xB1, 0x05]) == 5)
  }

  @Test("Text that is not UTF-8 is refused, as a value and as a key")
  func invalidText() {
    for invalid: [UInt8] in [[0x80], [0xC3], [0xED, 0xA0, 0x80], [0xC0, 0x80], [0xFF], [0xF4, 0x90, 0x80, 0x80]] {
      let text = [0x80 | UInt8(invalid.count)] + invalid
      #expect(corruption { try decode(String.self, message(text)) } == "A string is not valid UTF-8.")
      #expect(outcome { try decode([String: String].self, message(keyed([("a", text)]))) } == "dataCorrupted at a")
      let entry = [UInt8(invalid.count)] + invalid + [0x01]
      let container = [0xC4] + littleEndian(UInt32(entry.count)) + entry
      #expect(corruption { try decode([String: Int].self, message(container)) } == "A key is not valid UTF-8.")
    }
  }
}
