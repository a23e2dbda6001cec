/// Items of an unkeyed container, in order.
struct BinaryUnkeyedDecodingContainer: UnkeyedDecodingContainer {
  let session: DecodingSession
  /// The offset of the next item; in a run, of its number.
  var offset: Int
  let end: Int
  let itemCount: Int
  var currentIndex = 0
  /// The run that the next item is in.
  var runCode: UInt8 = 0
  var runRemaining = 0
  /// The step to this container.
  let step: UInt32
  /// How many containers are around the items.
  let depth: UInt16

  init(session: DecodingSession, value: BinaryValue, step: UInt32, depth: UInt16) throws {
    (self.session, self.step, self.depth) = (session, step, depth)
    let state = session.state
    end = Int(value.end)
    guard value.end - value.start >= 4 else {
      throw state.corrupted("An unkeyed container has no count.", DecodingStep(parent: step, key: .none))
    }
    offset = Int(value.start) + 4
    itemCount = Int(state.reader.number(at: Int(value.start), as: UInt32.self))
    // Code reserves memory for `count` items, each of which takes a byte at least.
    guard itemCount <= end - offset, itemCount > 0 || offset == end else {
      throw state.corrupted("An unkeyed container has a wrong count.", DecodingStep(parent: step, key: .none))
    }
    state.passHeader(value, to: value.start &+ 4)
  }

  var state: DecodingState { session.state }

  var codingPath: [any CodingKey] { state.path(step) }

  var count: Int? { itemCount }

  var isAtEnd: Bool { currentIndex >= itemCount }

  mutating func decodeNil() throws -> Bool {
    let item = try next(Any?.self)
    guard item.tag == Tag.null else { return false }
    try advance(over: item)
    return true
  }

  mutating func decode(_ type: Bool.Type) throws -> Bool {
    try decode(type) { try $0.state.boolean($1, at: $2) }
  }

  mutating func decode(_ type: String.Type) throws -> String {
    try decode(type) { try $0.state.string($1, at: $2) }
  }

  mutating func decode(_ type: Double.Type) throws -> Double {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.double($1, at: $2) }
  }

  mutating func decode(_ type: Float.Type) throws -> Float {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.float($1, at: $2) }
  }

  mutating func decode(_ type: Int.Type) throws -> Int {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: Int8.Type) throws -> Int8 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: Int16.Type) throws -> Int16 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: Int32.Type) throws -> Int32 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: Int64.Type) throws -> Int64 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: Int128.Type) throws -> Int128 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: UInt.Type) throws -> UInt {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: UInt8.Type) throws -> UInt8 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: UInt16.Type) throws -> UInt16 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: UInt32.Type) throws -> UInt32 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: UInt64.Type) throws -> UInt64 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode(_ type: UInt128.Type) throws -> UInt128 {
    if let number = nextInRun(type) { return number }
    return try decode(type) { try $0.state.integer(type, $1, at: $2) }
  }

  mutating func decode<T: Decodable>(_ type: T.Type) throws -> T {
    let depth = depth
    return try decode(type) { try $0.decode(type, $1, at: $2, depth: depth) }
  }

  mutating func nestedContainer<NestedKey: CodingKey>(
    keyedBy type: NestedKey.Type
  ) throws -> KeyedDecodingContainer<NestedKey> {
    let depth = depth
    return try decode(KeyedDecodingContainer<NestedKey>.self) {
      try $0.makeDecoder($1, at: $2, depth: depth).container(keyedBy: type)
    }
  }

  mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
    let depth = depth
    return try decode((any UnkeyedDecodingContainer).self) {
      try $0.makeDecoder($1, at: $2, depth: depth).unkeyedContainer()
    }
  }

  mutating func superDecoder() throws -> any Decoder {
    let depth = depth
    return try decode((any Decoder).self) { $0.makeDecoder($1, at: $2, depth: depth) }
  }
}
