// The types that the format knows. A number is read whatever form it has, if the type can represent it.

extension Bool: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(self ? Tag.true : Tag.false) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws {
    guard reader.offset < reader.end, reader.byte == Tag.true || reader.byte == Tag.false else {
      throw reader.mismatch(Bool.self, Tag.true)
    }
    self = reader.byte == Tag.true
    reader.offset &+= 1
  }
}

extension String: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(string: self) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readString() }
}

extension Double: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(Tag.scalar | ScalarCode.double, self) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws {
    guard let number = reader.readNumber(Tag.scalar | ScalarCode.double, Double.self) else {
      self = try reader.readConverted(Double.self)
      return
    }
    self = number
  }
}

extension Float: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(Tag.scalar | ScalarCode.float, self) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws {
    guard let number = reader.readNumber(Tag.scalar | ScalarCode.float, Float.self) else {
      self = try reader.readConverted(Float.self)
      return
    }
    self = number
  }
}

extension ValueReader {
  /// The number behind that tag; nil, and nothing is read, if there is another tag.
  @inlinable @inline(__always)
  mutating func readNumber<Number: BitwiseCopyable>(_ tag: UInt8, _ type: Number.Type) -> Number? {
    let size = 1 &+ MemoryLayout<Number>.size
    guard end &- offset >= size, byte == tag else { return nil }
    let number = unsafe (base + (offset &+ 1)).loadUnaligned(as: type)
    offset &+= size
    return number
  }

  @inlinable @inline(__always)
  mutating func readShortestInteger<Integer: FixedWidthInteger & Decodable>(_ type: Integer.Type) throws -> Integer {
    if offset < end, byte < Tag.shortString {
      let number = Integer(truncatingIfNeeded: byte)
      offset &+= 1
      return number
    }
    let start = offset
    if let number = readSigned(), let integer = Integer(exactly: number) { return integer }
    offset = start
    return try readInteger(as: type)
  }
}

extension Int: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: Int64(self)) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(Int.self) }
}

extension Int8: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: Int64(self)) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(Int8.self) }
}

extension Int16: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: Int64(self)) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(Int16.self) }
}

extension Int32: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: Int64(self)) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(Int32.self) }
}

extension Int64: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: self) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(Int64.self) }
}

extension Int128: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: self) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(Int128.self) }
}

extension UInt: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: self) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(UInt.self) }
}

extension UInt8: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: Int64(self)) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(UInt8.self) }
}

extension UInt16: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: Int64(self)) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(UInt16.self) }
}

extension UInt32: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: Int64(self)) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(UInt32.self) }
}

extension UInt64: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: self) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(UInt64.self) }
}

extension UInt128: MessageValue {
  @inlinable @inline(__always)
  public func write(to writer: inout ValueWriter) { writer.bytes.append(integer: self) }

  @inlinable @inline(__always)
  public init(from reader: inout ValueReader) throws { self = try reader.readShortestInteger(UInt128.self) }
}
