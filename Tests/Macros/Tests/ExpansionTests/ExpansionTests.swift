import SwiftSyntax
import SwiftSyntaxMacroExpansion
import SwiftSyntaxMacros
import SwiftSyntaxMacrosGenericTestSupport
import Testing

/// The code that `@MessageValue` makes, and what it refuses.
@Suite("Expansion")
struct ExpansionTests {
  private let conformances: [TypeSyntax] = ["MessageValue", "Encodable", "Decodable"]

  private func expect(
    _ source: String, becomes expanded: String, conformances: [TypeSyntax]? = nil,
    at location: Testing.SourceLocation = #_sourceLocation
  ) {
    assertMacroExpansion(
      "@MessageValue\n\(source)", expandedSource: "\(source)\n\n\(expanded)",
      macroSpecs: [
        "MessageValue": MacroSpec(type: MessageValueMacro.self, conformances: conformances ?? self.conformances)
      ],
      indentationWidth: .spaces(2), failureHandler: { Issue.record("\($0.message)", sourceLocation: location) })
  }

  /// With this error, at this place.
  private func expect(
    _ source: String, isRefused message: String, _ line: Int, _ column: Int,
    at location: Testing.SourceLocation = #_sourceLocation
  ) {
    assertMacroExpansion(
      "@MessageValue\n\(source)", expandedSource: source,
      diagnostics: [DiagnosticSpec(message: message, line: line, column: column)],
      macroSpecs: ["MessageValue": MacroSpec(type: MessageValueMacro.self, conformances: conformances)],
      failureHandler: { failure in
        // The source is laid out anew, which says nothing about the error.
        if failure.message.contains("did not produce the expected expanded source") { return }
        Issue.record("\(failure.message)", sourceLocation: location)
      })
  }

  @Test("A struct becomes what one would write by hand") func structs() {
    expect(
      """
      public struct Order {
        let id: Int
        let version = 1
        var note: String?
      }
      """,
      becomes: """
        extension Order: MessagePorts.MessageValue, Swift.Encodable, Swift.Decodable {
          public func write(to writer: inout MessagePorts.ValueWriter) {
            writer.writeEntries(of: self) { entries in
              entries.write(self.id, forKey: "id")
              entries.write(self.version, forKey: "version")
              entries.write(self.note, forKey: "note")
            }
          }

          public init(from reader: inout MessagePorts.ValueReader) throws {
            try self.init(fromEntriesOf: &reader) { entries in
              try Self(from: &entries)
            }
          }

          @inline(__always)
          private init(from entries: inout MessagePorts.EntryReader) throws {
            self.id = try entries.read(forKey: "id")
            self.note = try entries.read(forKey: "note")
          }
        }
        """)
  }

  @Test("An enum is one entry, with the values of the case in it") func enums() {
    expect(
      """
      enum Figure: Codable {
        case nothing
        case circle(radius: Double, Int = 1)
        enum CodingKeys: String, CodingKey {
          case nothing, circle = "round"
        }
        enum CircleCodingKeys: CodingKey {
          case radius
        }
      }
      """,
      becomes: """
        extension Figure: MessagePorts.MessageValue {
          func write(to writer: inout MessagePorts.ValueWriter) {
            writer.writeEntries(of: self) { entries in
              switch self {
              case .nothing:
                entries.writeEntries(forKey: "nothing") { _ in
                }
              case .circle(let value0, _):
                entries.writeEntries(forKey: "round") { entries in
                  entries.write(value0, forKey: "radius")
                }
              }
            }
          }

          init(from reader: inout MessagePorts.ValueReader) throws {
            try self.init(fromEntriesOf: &reader) { entries in
              try Self(from: &entries)
            }
          }

          @inline(__always)
          private init(from entries: inout MessagePorts.EntryReader) throws {
            switch try entries.findOnly(of: ["nothing", "round"], for: Self.self) {
            case 0:
              self = try entries.readEntries(forKey: "nothing") { _ in
                Self.nothing
              }
            default:
              self = try entries.readEntries(forKey: "round") { entries in
                Self.circle(radius: try entries.read(forKey: "radius"))
              }
            }
          }
        }
        """, conformances: ["MessagePorts.MessageValue"])
  }

  @Test("Raw values that can be seen need no code") func rawValues() {
    expect(
      """
      enum Grade: UInt8 {
        case low
      }
      """,
      becomes: """
        extension Grade: MessagePorts.MessageValue, Swift.Encodable, Swift.Decodable {
        }
        """)
  }

  @Test("Parameters that occur in what is written have conditions") func generics() {
    expect(
      """
      enum Plenty<Tag, Value, Source: Identifiable> {
        case one([Value]), two(Source.ID, Value)
      }
      """,
      becomes: """
        extension Plenty: MessagePorts.MessageValue where Value: MessagePorts.MessageValue, Source.ID: MessagePorts.MessageValue {
          func write(to writer: inout MessagePorts.ValueWriter) {
            writer.writeEntries(of: self) { entries in
              switch self {
              case .one(let value0):
                entries.writeEntries(forKey: "one") { entries in
                  entries.write(value0, forKey: "_0")
                }
              case .two(let value0, let value1):
                entries.writeEntries(forKey: "two") { entries in
                  entries.write(value0, forKey: "_0")
                  entries.write(value1, forKey: "_1")
                }
              }
            }
          }

          init(from reader: inout MessagePorts.ValueReader) throws {
            try self.init(fromEntriesOf: &reader) { entries in
              try Self(from: &entries)
            }
          }

          @inline(__always)
          private init(from entries: inout MessagePorts.EntryReader) throws {
            switch try entries.findOnly(of: ["one", "two"], for: Self.self) {
            case 0:
              self = try entries.readEntries(forKey: "one") { entries in
                Self.one(try entries.read(forKey: "_0"))
              }
            default:
              self = try entries.readEntries(forKey: "two") { entries in
                Self.two(try entries.read(forKey: "_0"), try entries.read(forKey: "_1"))
              }
            }
          }
        }
        """, conformances: ["MessageValue"])
  }

  @Test("A type without keys is written as an empty container, and reads nothing", arguments: ["", "private "])
  func nothing(access: String) {
    let members = access.isEmpty ? "" : "fileprivate "
    expect(
      """
      \(access)struct Nothing {
        static let shared = 1
        var computed: Int { 1 }
      }
      """,
      becomes: """
        extension Nothing: MessagePorts.MessageValue, Swift.Encodable, Swift.Decodable {
          \(members)func write(to writer: inout MessagePorts.ValueWriter) {
            writer.writeEntries(of: self) { _ in
            }
          }

          \(members)init(from reader: inout MessagePorts.ValueReader) throws {
          }
        }
        """)
  }

  @Test("What is neither a struct nor an enum is refused", arguments: ["class", "actor", "protocol"])
  func kinds(kind: String) {
    expect(
      "\(kind) Thing { }",
      isRefused: "'@MessageValue' is for structs and enums: the values of other types are more than what is in them", 1,
      1)
  }

  @Test("Properties that are more than a value are refused, unless coding keys leave them out") func properties() {
    expect(
      "struct A { @Clamped(0...1) var x: Int }",
      isRefused: """
        a property with '@Clamped' cannot be derived, which may be a property wrapper or another macro: leave it out of \
        'CodingKeys', or write 'write(to:)' and 'init(from:)' by hand
        """, 2, 12)
    expect(
      "struct A { lazy var x = 1; enum CodingKeys: CodingKey { case x } }",
      isRefused: "there is no stored property 'x' that this is the key of", 2, 62)
    expect(
      "struct A {\n  #if DEBUG\n    var x: Int\n  #endif\n}",
      isRefused: "what is in '#if' cannot be derived: a macro does not know whether it is compiled", 3, 3)
    expect(
      "enum A {\n  case x\n  #if DEBUG\n    case y\n  #endif\n}",
      isRefused: "what is in '#if' cannot be derived: a macro does not know whether it is compiled", 4, 3)
  }

  @Test("Coding keys that cannot be seen, or that are those of nothing, are refused") func codingKeys() {
    expect(
      "struct A { var x = 1; typealias CodingKeys = Keys }",
      isRefused: "'CodingKeys' has to be an enum that is declared here, for its cases to be seen", 2, 33)
    expect(
      "struct A { var x = 1; enum CodingKeys: CodingKey { case x; var stringValue: String { \"\" } } }",
      isRefused: "keys that are computed cannot be seen: give the cases raw values instead", 2, 60)
    expect(
      "struct A { var x = 1; enum CodingKeys: CodingKey { case y } }",
      isRefused: "there is no stored property 'y' that this is the key of", 2, 57)
    expect(
      "enum A { case x; enum CodingKeys: CodingKey { case x, y } }",
      isRefused: "there is no case 'y' that this is the key of", 2, 55)
    expect(
      "enum A { case x, y; enum CodingKeys: CodingKey { case x } }",
      isRefused: "a case that 'CodingKeys' leaves out cannot be derived: writing cannot fail", 2, 18)
    expect(
      "enum A { case x(Int); enum XCodingKeys: CodingKey { case y } }",
      isRefused: "a value without a key needs a default", 2, 17)
    expect(
      "enum A { case x(Int = 1); enum XCodingKeys: CodingKey { case y } }",
      isRefused: "there is no value 'y' of the case that this is the key of", 2, 62)
    expect("enum A { }", isRefused: "an enum without cases has no values to be derived", 2, 6)
  }

  @Test("Coding that is written by hand is refused: its form cannot be seen") func handwritten() {
    expect(
      "struct A { func encode(to encoder: any Encoder) throws { } }",
      isRefused:
        "'encode(to:)' is written by hand: write 'write(to:)' and 'init(from:)' of 'MessageValue' by hand as well", 2,
      17)
    expect(
      "struct A { init(from decoder: any Decoder) throws { } }",
      isRefused:
        "'init(from:)' is written by hand: write 'write(to:)' and 'init(from:)' of 'MessageValue' by hand as well", 2,
      12)
  }
}
