import Foundation
import MessageCoding
import MessagePortsFoundation
import Testing

@Suite("Coders of Foundation")
struct FoundationCoderTests {
  struct Value: Codable, Equatable {
    var number = 1, text = "a<b>&\"'", list = [[1, 2], [1, 2]], empty = [[Int]](repeating: [], count: 2)
    var long = (0..<300).map { "\($0)" }, data = Data([1, 2]), table = ["x": ["y": Date(timeIntervalSince1970: 0)]]
  }

  struct Nested: Codable {
    var parts: [Nested] = []
  }

  private func decode<T: Decodable>(_ type: T.Type, _ coder: some MessageCoder, _ bytes: [UInt8]) throws -> T {
    try unsafe coder.decode(type, from: bytes.span.bytes)
  }

  @Test("A value is equal after encoding and decoding, in each format")
  func roundTrips() throws {
    let (json, binary, xml) = (JSONMessageCoder(), PropertyListMessageCoder(), PropertyListMessageCoder(format: .xml))
    #expect(try decode(Value.self, json, try json.encode(Value())) == Value())
    #expect(try decode(Value.self, binary, try binary.encode(Value())) == Value())
    #expect(try decode(Value.self, xml, try xml.encode(Value())) == Value())
  }

  @Test("A property list of another format than the one that was set is refused")
  func otherFormat() throws {
    let (binary, xml) = (PropertyListMessageCoder(), PropertyListMessageCoder(format: .xml))
    #expect(throws: DecodingError.self) { try decode(Value.self, binary, try xml.encode(Value())) }
    #expect(throws: DecodingError.self) { try decode(Value.self, xml, try binary.encode(Value())) }
  }

  @Test("XML that is nested too deep is refused before it is parsed, also where comments hide it")
  func deepXML() throws {
    let start = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\">"
    for piece in ["<array>", "<array><!--</array>-->", "<array a='/'>", "<dict><key>k</key>"] {
      let bytes = Array((start + String(repeating: piece, count: 20_000)).utf8)
      for coder in [PropertyListMessageCoder(), PropertyListMessageCoder(format: .xml)] {
        #expect(throws: DecodingError.self) { try decode(Nested.self, coder, bytes) }
      }
    }
  }

  @Test("A binary property list whose arrays hold the next one twice is refused")
  func sharedContainers() {
    for arrays in [2, 28] {
      var bytes = Array("bplist00".utf8)
      var offsets: [UInt8] = []
      for index in 0..<arrays {
        offsets.append(UInt8(bytes.count))
        bytes += index == arrays - 1 ? [0xA0] : [0xA2, UInt8(index + 1), UInt8(index + 1)]
      }
      let table = UInt8(bytes.count)
      bytes += offsets + [0, 0, 0, 0, 0, 0, 1, 1]
      for number in [UInt8(offsets.count), 0, table] { bytes += [0, 0, 0, 0, 0, 0, 0, number] }
      #expect(throws: DecodingError.self) { try decode([[Int]].self, PropertyListMessageCoder(), bytes) }
    }
  }
}
