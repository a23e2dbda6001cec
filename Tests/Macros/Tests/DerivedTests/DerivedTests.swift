import MessagePorts
import MessagePortsMacros
import Testing

/// What `@MessageValue` derives, beside what the compiler derives for `Codable` of the same types.
@Suite("Derived values")
struct DerivedTests {
  /// Forms of values: the numbers one and two, a text, nil, and what is none.
  private let one: [UInt8] = [1], two: [UInt8] = [2], text: [UInt8] = [0x81, 0x78], null: [UInt8] = [0xC0]
  private let invalid: [UInt8] = [0xFE]

  @Test("A struct has the keys of its stored properties, and is read from them as by Codable")
  func structs() throws {
    try check(Place(x: 1, y: -2, label: "p"))
    try check(Properties.example(nil))
    try check(Properties.example(6))
    try check(Numbered(one: 1, two: "2"))
    try check(Named(one: 1, two: "2"))
    try check(Nothing())
    try check(Constant())
    try check(Late(one: 3))
    try check(NoKeys())
    try check([Nothing()])
    try check(["a": Named(one: 1, two: "2")])
  }

  @Test("Coding keys rename, order and leave out")
  func renamed() throws {
    var value = Renamed(one: 1, two: 2, quoted: "q")
    try check(value)
    value.two = nil
    try check(value)
    value.left = 8
    #expect(try readDirectly(Renamed.self, coder.encode(value)).left == 3)
    let bytes = try coder.encode(value)
    #expect(
      bytes == [0xB1] + keyed(("a \"quoted\"\tkey", [0x81, 0x71]), ("fixed", [5]), ("typed", [6]), ("eins", [1])))
  }

  @Test("Missing, additional, doubled and wrong entries of a struct are as with Codable")
  func entries() {
    read(Named.self, keyed(("one", one), ("two", text)))
    read(Named.self, keyed(("two", text), ("x", keyed(("one", one))), ("one", one), ("y", text)))
    #expect(read(Named.self, keyed(("one", one))) == "keyNotFound two at ")
    #expect(read([Named].self, item(keyed())) == "keyNotFound one at Index 0")
    #expect(read(Named.self, keyed(("one", null), ("two", text))) == "valueNotFound at one")
    #expect(read(Named.self, keyed(("one", text), ("two", text))) == "typeMismatch at one")
    read(Named.self, keyed(("one", one), ("two", text), ("x", invalid)))
    for value in [one, text, null, invalid, keyed(), keyed(("one", one))] {
      read(Named.self, value)
      read(Nothing.self, value)
      read(NoKeys.self, value)
      read(Constant.self, value)
      read(Single.self, value)
    }
    // What it is has no say, though what is written has it.
    #expect(read(Constant.self, keyed(("one", text))) == "Constant(one: 1)")
  }

  @Test("A value that has a raw value is that, wherever it says so")
  func rawValues() throws {
    try check(Number(rawValue: 7))
    try check(Options(rawValue: 300))
    try check(UserID(rawValue: "u"))
    try check(Later(text: "l"))
    try check(Suit.spades)
    try check(Grade.high)
    try check(Aliased.two)
    try check([Letter.a, .b])
    #expect(try coder.encode(Later(text: "x")) == [0xB1] + text)
    #expect(try coder.encode(Aliased.two) == [0xB1] + two)
    #expect(read(Later.self, [0x80]).contains("dataCorrupted"))
    #expect(read(Aliased.self, [9]).contains("dataCorrupted"))
  }

  @Test("An enum has an entry for its case, with the values as entries")
  func enums() throws {
    for value in Plain.allCases { try check(value) }
    try check(Single.only)
    let place = Place(x: 1, y: 2, label: "p")
    for value in [
      .nothing, .circle(radius: 2), .polygon([1, -2], name: nil), .polygon([], name: "n"), .line(place, place),
      .label("t", at: nil, in: 1), .label("t", at: place, in: 1), .empty(Nothing()),
      .group(.nothing, .group(.circle(radius: 1), .nothing)),
    ] as [Figure] { try check(value) }
    #expect(try coder.encode(Plain.default) == [0xB1] + keyed(("default", keyed())))
    #expect(
      try coder.encode(Figure.polygon([], name: "x"))
        == [0xB1] + keyed(("polygon", keyed(("_0", [0xC5, 4, 0, 0, 0, 0, 0, 0, 0]), ("name", text)))))
  }

  @Test("Keys of cases, and of their values, rename and leave out; what is left out has its default")
  func keysOfCases() throws {
    for value in [
      .circle(radius: 1), .circle(radius: 1, filled: true), .square(side: 2), .square(side: 2, name: "n"), .unit(),
    ] as [Wish] { try check(value) }
    #expect(try readDirectly(Wish.self, coder.encode(Wish.square(side: 1, 9))) == .square(side: 1, 7))
    #expect(try readDirectly(Wish.self, coder.encode(Wish.unit(scale: 5))) == .unit(scale: 1))
    read(Wish.self, keyed(("round", keyed(("r", one), ("full", [0xC2])))))
    #expect(read(Wish.self, keyed(("round", keyed(("r", one))))) == "keyNotFound full at round")
    read(Wish.self, keyed(("circle", keyed(("r", one)))))
    read(Wish.self, keyed(("unit", text)))
    read(Wish.self, keyed(("unit", null)))
    read(Wish.self, keyed(("unit", invalid)))
  }

  @Test("An enum's message has one of its cases, whatever else it has")
  func oneCase() {
    let circle = ("circle", keyed(("radius", one))), nothing = ("nothing", keyed()), other = ("other", text)
    for message in [
      keyed(circle), keyed(other, circle), keyed(circle, other), keyed(other, nothing, other), keyed(circle, nothing),
      keyed(nothing, other, circle), keyed(), keyed(other), keyed(nothing, nothing), keyed(circle, circle),
      keyed(("circle", null)), keyed(("circle", text)), keyed(("circle", keyed())), keyed(("nothing", null)),
      keyed(("nothing", text)), keyed(("nothing", keyed(("x", one)))), keyed(circle, ("x", invalid)),
      keyed(("x", invalid), circle), keyed(("polygon", keyed(("_0", one)))), keyed(("polygon", keyed(("_0", null)))),
      keyed(("group", keyed(("_0", keyed(nothing)), ("_1", keyed())))), text, null, [],
    ] {
      read(Figure.self, message)
      read([Figure].self, item(message))
    }
    #expect(read(Figure.self, keyed(other, nothing, other)) == "nothing")
    #expect(read(Figure.self, keyed(circle, nothing)) == "typeMismatch at ")
    #expect(read(Figure.self, keyed()) == "typeMismatch at ")
    read(Single.self, keyed(("only", keyed())))
    read(Single.self, keyed(("other", keyed())))
  }

  @Test("Types with parameters are values if what is in them is one")
  func generics() throws {
    try check(Box(content: 1, maybe: nil))
    try check(Box(content: [1, 2], maybe: [3]))
    try check(Box<Int?>(content: nil, maybe: .some(1)))
    try check(Box(content: Box(content: "x", maybe: "y"), maybe: nil))
    try check(Pair(first: "a", second: [1, nil]))
    try check(Tagged<Target, Int>(content: 1))
    try check(Reference<Target>(id: 2))
    try check([Either<Int, String>.left(1), .right("r")])
    try check(Tree.node(.leaf, 1, .node(.leaf, 2, .leaf)))
    try check(Outer<Int>.Inner(element: 1))
    read(Box<Int?>.self, keyed(("maybe", one)))
    read(Box<Int>.self, keyed(("content", null)))
  }

  @Test("What is derived is as accessible as its type") func access() throws { try checkAccess() }

  @Test("A derived value goes through a channel, and is read by Codable")
  func channel() throws {
    let channel = try MessageChannel()
    try channel.port1.postMessage(Order(id: 1, name: "n", note: nil))
    try channel.port1.postMessage(Delivery.pickup)
    #expect(try channel.port2.receive(Order.self, timeout: .seconds(40)).name == "n")
    guard case .pickup = try readCodable(Delivery.self, channel.port2.receive(timeout: .seconds(40)).bytes) else {
      Issue.record("another case")
      return
    }
    #expect(try coder.encode(Delivery.pickup) == [0xB1] + keyed(("self-service", keyed())))
    channel.port1.close()
  }
}
