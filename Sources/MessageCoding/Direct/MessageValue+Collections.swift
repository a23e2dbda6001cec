// Optionals and sequences of values.

extension Optional: MessageValue where Wrapped: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) {
    if let self { self.write(to: &writer) } else { writer.bytes.append(Tag.null) }
  }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = reader.readNil() ? nil : try Wrapped(from: &reader) }
}

extension Array: MessageValue where Element: MessageValue {
  @inlinable
  public func write(to writer: inout ValueWriter) {
    if writer.writeRun(self) { return }
    writer.writeItems(count) { writer in for element in self { writer.write(element) } }
  }

  @inlinable
  public init(from reader: inout ValueReader) throws {
    let outerEnd = reader.end
    let count = try reader.enterUnkeyed()
    if reader.isAtRun, let numbers = reader.readRun(Self.self, count) {
      self = numbers
    } else {
      self = []
      // What a peer claims reserves no more memory than it has sent.
      reserveCapacity(Swift.min(count, (reader.end &- reader.offset) / Swift.max(1, MemoryLayout<Element>.stride) &+ 4))
      try reader.forEachItem(count) { reader, _ in append(try reader.readValue(Element.self)) }
    }
    try reader.leaveUnkeyed(outerEnd)
  }
}

extension Set: MessageValue where Element: MessageValue {
  @inlinable
  public func write(to writer: inout ValueWriter) {
    writer.writeItems(count) { writer in for element in self { writer.write(element) } }
  }

  @inlinable
  public init(from reader: inout ValueReader) throws {
    let outerEnd = reader.end
    let count = try reader.enterUnkeyed()
    self = []
    try reader.forEachItem(count) { reader, _ in insert(try reader.readValue(Element.self)) }
    try reader.leaveUnkeyed(outerEnd)
  }
}
