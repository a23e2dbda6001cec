import Foundation
import MessageCoding
import Testing

/// Keeps what it decodes from, as some types do to decode later.
private struct Kept: Decodable {
  let decoder: any Decoder
  init(from decoder: any Decoder) { self.decoder = decoder }
}

private struct KeptContainer: Decodable {
  let container: KeyedDecodingContainer<Tree.Key>
  init(from decoder: any Decoder) throws { container = try decoder.container(keyedBy: Tree.Key.self) }
}

private struct KeptItems: Decodable {
  let container: any UnkeyedDecodingContainer
  init(from decoder: any Decoder) throws { container = try decoder.unkeyedContainer() }
}

/// Keeps what it encodes to. `@unchecked Sendable`: used by one thread, through closures that are `@Sendable` for tables.
private final class Keeper: Encodable, @unchecked Sendable {
  var encoder: (any Encoder)?
  var container: KeyedEncodingContainer<Tree.Key>?

  func encode(to encoder: any Encoder) throws {
    self.encoder = encoder
    var container = encoder.container(keyedBy: Tree.Key.self)
    try container.encode(1, forKey: Tree.Key("a"))
    self.container = container
  }
}

@Suite("Reuse of sessions and containers")
struct ReuseTests {
  /// If this fails, the standard library has changed: coding is correct still, but takes longer.
  @Test("Containers of the standard library are references, so that they can be used again")
  func layout() { #expect(ContainerLayout.isKnown) }

  @Test("A decoder that is kept decodes its message after the bytes are gone, and others are not affected")
  func keptDecoders() throws {
    var kept: [Kept] = []
    for number in 0..<50 {
      var bytes = try coder.encode(["item": Item.example, "other": Item.example])
      let decoded = try decode([String: Kept].self, bytes)
      kept.append(try #require(decoded["item"]))
      for index in bytes.indices { bytes[index] = 0xAA }
      #expect(try copy([number, -number]) == [number, -number])
    }
    for kept in kept {
      #expect(try Item(from: kept.decoder) == .example)
      #expect(throws: DecodingError.self) { try Int(from: kept.decoder) }
    }
  }

  @Test("A keyed container that is kept decodes its message, also while others with the same keys are in use")
  func keptContainers() throws {
    var kept: [KeptContainer] = []
    for number in 0..<50 {
      let tree = ["a": Tree.int(number), "b": .object(["c": .int(-number)])]
      kept.append(try decode(KeptContainer.self, try coder.encode(tree)))
    }
    for (number, kept) in kept.enumerated() {
      #expect(try kept.container.decode(Int.self, forKey: Tree.Key("a")) == number)
      #expect(try kept.container.decode(Tree.self, forKey: Tree.Key("b")) == .object(["c": .int(-number)]))
      #expect(kept.container.allKeys.count == 2)
      #expect(throws: DecodingError.self) { try kept.container.decode(Int.self, forKey: Tree.Key("z")) }
    }
  }

  @Test("A container of a decoder that is kept decodes its message when the decoder is gone")
  func containersOfKeptDecoders() throws {
    struct Late: Decodable {
      let decoder: any Decoder
      init(from decoder: any Decoder) throws {
        #expect(try decoder.container(keyedBy: Tree.Key.self).allKeys.count == 2)
        self.decoder = decoder
      }
    }
    for number in 0..<50 {
      let bytes = try coder.encode(["a": number, "b": -number])
      var late: Late? = try decode(Late.self, bytes)
      let container = try #require(try late?.decoder.container(keyedBy: Tree.Key.self))
      late = nil
      #expect(try decode([String: Int].self, bytes).count == 2)
      #expect(try Int(from: try container.superDecoder(forKey: Tree.Key("b"))) == -number)
      #expect(
        try container.decode(Kept.self, forKey: Tree.Key("a")).decoder.singleValueContainer().decode(Int.self) == number
      )
    }
  }

  @Test("An unkeyed container that is kept decodes its message")
  func keptItems() throws {
    let kept = try (0..<20).map { try decode(KeptItems.self, try coder.encode([$0, $0 + 1])) }
    for (number, kept) in kept.enumerated() {
      var container = kept.container
      #expect(try container.decode(Int.self) == number)
      #expect(try container.decode(Int.self) == number + 1)
      #expect(container.isAtEnd)
    }
  }

  @Test("Containers with the same keys that are in use at the same time do not affect one another")
  func simultaneousContainers() throws {
    struct Reader: Decodable {
      init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Tree.Key.self)
        let again = try decoder.container(keyedBy: Tree.Key.self)
        let containers = try (0..<40).map {
          try container.nestedContainer(keyedBy: Tree.Key.self, forKey: Tree.Key("\($0)"))
        }
        for (index, inner) in containers.enumerated().reversed() {
          #expect(try inner.decode(Int.self, forKey: Tree.Key("x")) == index)
          #expect(try again.decode(Tree.self, forKey: Tree.Key("\(index)")) == .object(["x": .int(index)]))
        }
      }
    }
    let entries = Dictionary(uniqueKeysWithValues: (0..<40).map { ("\($0)", ["x": $0]) })
    _ = try decode(Reader.self, try coder.encode(entries))
    #expect(try copy(Item.example) == .example)
  }

  @Test("An encoder or container that is kept throws when it is used, and changes no other message")
  func keptEncoders() throws {
    let keeper = Keeper()
    #expect(try decode([String: Int].self, try coder.encode(keeper)) == ["a": 1])
    @Sendable func useLate() {
      #expect(throws: EncodingError.self) { try keeper.container?.encode(2, forKey: Tree.Key("b")) }
      #expect(throws: EncodingError.self) {
        var container = keeper.encoder?.singleValueContainer()
        try container?.encode(1)
      }
      #expect(keeper.encoder?.codingPath.isEmpty == true)
      #expect(throws: EncodingError.self) {
        var container = keeper.encoder?.unkeyedContainer()
        try container?.encode(Item.example)
      }
      #expect(throws: EncodingError.self) {
        var container = keeper.container?.nestedUnkeyedContainer(forKey: Tree.Key("c"))
        try container?.encode(1)
      }
    }
    useLate()
    let other = Encoding("uses the other while encoding") { encoder in
      var container = encoder.container(keyedBy: Tree.Key.self)
      try container.encode(1, forKey: Tree.Key("x"))
      useLate()
      try container.encode(2, forKey: Tree.Key("y"))
    }
    #expect(try decode([String: Int].self, try coder.encode(other)) == ["x": 1, "y": 2])
  }

  @Test("A part that writes into a container around it is refused, and so is a value that encodes itself twice")
  func misuse() throws {
    struct Inside: Encodable {
      let outer: any Encoder

      func encode(to encoder: any Encoder) throws {
        var container = outer.container(keyedBy: Tree.Key.self)
        try container.encode(1, forKey: Tree.Key("b"))
      }
    }
    let outside = Encoding("outside") { encoder in
      var container = encoder.container(keyedBy: Tree.Key.self)
      try container.encode(Inside(outer: encoder), forKey: Tree.Key("a"))
    }
    #expect(throws: EncodingError.self) { try coder.encode(outside) }
    let twice: [Encoding] = [
      .init("keyed, then unkeyed") {
        _ = $0.container(keyedBy: Tree.Key.self)
        _ = $0.unkeyedContainer()
      },
      .init("two single values") {
        var container = $0.singleValueContainer()
        try container.encode(1)
        try container.encode(2)
      },
      .init("single value, then keyed") {
        var container = $0.singleValueContainer()
        try container.encode(1)
        _ = $0.container(keyedBy: Tree.Key.self)
      },
      .init("super encoder used twice") {
        var container = $0.unkeyedContainer()
        let inner = container.superEncoder()
        try container.encode(1)
        try 1.encode(to: inner)
        try 2.encode(to: inner)
      },
    ]
    for value in twice {
      #expect(throws: EncodingError.self, "\(value.testDescription)") { try coder.encode(value) }
      #expect(throws: EncodingError.self, "\(value.testDescription)") { try coder.encode([value]) }
    }
    #expect(try copy(Item.example) == .example)
  }

  @Test("A value may encode and decode messages of its own while it is encoded and decoded")
  func nestedMessages() throws {
    struct Envelope: Codable, Equatable {
      var item: Item

      init(item: Item) { self.item = item }

      init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Tree.Key.self)
        item = try MessageCodingTests.decode(Item.self, try container.decode([UInt8].self, forKey: Tree.Key("bytes")))
        #expect(try container.decode(Int.self, forKey: Tree.Key("after")) == 1)
      }

      func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Tree.Key.self)
        try container.encode(try coder.encode(item), forKey: Tree.Key("bytes"))
        try container.encode(1, forKey: Tree.Key("after"))
      }
    }
    let value = [Envelope(item: .example), Envelope(item: .example)]
    #expect(try copy(value) == value)
  }

  @Test("One coder is used by several threads at the same time")
  func concurrency() async {
    await withTaskGroup(of: Int.self) { group in
      for task in 0..<8 {
        group.addTask {
          var failures = 0
          for number in 0..<500 {
            let value = ["task \(task)": [Item.example], "number \(number)": []]
            if (try? copy(value)) != value { failures += 1 }
            if (try? decode(Int.self, [0xB1, 0xC5])) != nil { failures += 1 }
          }
          return failures
        }
      }
      for await failures in group { #expect(failures == 0) }
    }
  }
}
