extension DecodingState {
  /// The type, if this value can be decoded as such without its `init(from:)`.
  @inline(__always)
  func directType<T: Decodable>(_ type: T.Type, _ value: BinaryValue, depth: UInt16) -> DirectType {
    let direct = DirectType(type)
    return direct == .other || value.tag != Tag.unkeyed || isRun(of: direct, value, depth: depth) ? direct : .other
  }

  /// Decodes a value as a type that the format knows: the type of the result.
  @inline(never)
  func decode<T>(_ type: T.Type, as direct: DirectType, _ value: BinaryValue, at place: DecodingStep) throws -> T {
    switch direct {
    case .other: throw mismatch(type, value, at: place)
    case .bool: cast(try boolean(value, at: place), to: type)
    case .string: cast(try string(value, at: place), to: type)
    case .float: cast(try float(value, at: place), to: type)
    case .double: cast(try double(value, at: place), to: type)
    case .int: cast(try integer(Int.self, value, at: place), to: type)
    case .int8: cast(try integer(Int8.self, value, at: place), to: type)
    case .int16: cast(try integer(Int16.self, value, at: place), to: type)
    case .int32: cast(try integer(Int32.self, value, at: place), to: type)
    case .int64: cast(try integer(Int64.self, value, at: place), to: type)
    case .int128: cast(try integer(Int128.self, value, at: place), to: type)
    case .uint: cast(try integer(UInt.self, value, at: place), to: type)
    case .uint8: cast(try integer(UInt8.self, value, at: place), to: type)
    case .uint16: cast(try integer(UInt16.self, value, at: place), to: type)
    case .uint32: cast(try integer(UInt32.self, value, at: place), to: type)
    case .uint64: cast(try integer(UInt64.self, value, at: place), to: type)
    case .uint128: cast(try integer(UInt128.self, value, at: place), to: type)
    case .uint8Array: cast(try array(of: UInt8.self, value, at: place), to: type)
    case .intArray: cast(try array(of: Int.self, value, at: place), to: type)
    case .doubleArray: cast(try array(of: Double.self, value, at: place), to: type)
    case .floatArray: cast(try array(of: Float.self, value, at: place), to: type)
    case .int32Array: cast(try array(of: Int32.self, value, at: place), to: type)
    case .uint32Array: cast(try array(of: UInt32.self, value, at: place), to: type)
    case .int64Array: cast(try array(of: Int64.self, value, at: place), to: type)
    case .uint64Array: cast(try array(of: UInt64.self, value, at: place), to: type)
    case .uintArray: cast(try array(of: UInt.self, value, at: place), to: type)
    case .int16Array: cast(try array(of: Int16.self, value, at: place), to: type)
    case .uint16Array: cast(try array(of: UInt16.self, value, at: place), to: type)
    case .int8Array: cast(try array(of: Int8.self, value, at: place), to: type)
    }
  }

  /// Whether an unkeyed container is to be an array of numbers, and is one run of them; `Array.init(from:)` decodes
  /// others. The types that are not arrays have their own way to report a container.
  private func isRun(of direct: DirectType, _ value: BinaryValue, depth: UInt16) -> Bool {
    switch direct {
    case .uint8Array: isRun(of: UInt8.self, value) && depth < maximumDepth
    case .intArray: isRun(of: Int.self, value) && depth < maximumDepth
    case .doubleArray: isRun(of: Double.self, value) && depth < maximumDepth
    case .floatArray: isRun(of: Float.self, value) && depth < maximumDepth
    case .int32Array: isRun(of: Int32.self, value) && depth < maximumDepth
    case .uint32Array: isRun(of: UInt32.self, value) && depth < maximumDepth
    case .int64Array: isRun(of: Int64.self, value) && depth < maximumDepth
    case .uint64Array: isRun(of: UInt64.self, value) && depth < maximumDepth
    case .uintArray: isRun(of: UInt.self, value) && depth < maximumDepth
    case .int16Array: isRun(of: Int16.self, value) && depth < maximumDepth
    case .uint16Array: isRun(of: UInt16.self, value) && depth < maximumDepth
    case .int8Array: isRun(of: Int8.self, value) && depth < maximumDepth
    default: true
    }
  }

  @inline(__always)
  func isRun<Number: PackedScalar>(of type: Number.Type, _ value: BinaryValue) -> Bool {
    let (start, end) = (Int(value.start), Int(value.end))
    guard end - start >= 4 + Layout.runHeaderBytes, reader.byte(at: start + 4) == Tag.run | type.scalarCode else {
      return false
    }
    let count = reader.number(at: start + 5, as: UInt32.self)
    return count == reader.number(at: start, as: UInt32.self)
      && Int(count) * MemoryLayout<Number>.size == end - start - 4 - Layout.runHeaderBytes
  }

  /// The numbers of an unkeyed container that is one run.
  private func array<Number: PackedScalar>(
    of type: Number.Type, _ value: BinaryValue, at place: DecodingStep
  ) throws -> [Number] {
    guard value.tag == Tag.unkeyed else { throw mismatch([Any].self, value, at: place) }
    passHeader(value, to: value.end)
    let count = Int(reader.number(at: Int(value.start), as: UInt32.self))
    return reader.array(of: count, at: Int(value.start) + 4 + Layout.runHeaderBytes)
  }

  /// The value as what it is known to be; `as!` would look both types up.
  @inline(__always)
  private func cast<U, T>(_ value: U, to type: T.Type) -> T {
    unsafe unsafeBitCast(value, to: type)
  }
}

extension ByteReader {
  /// The numbers of a run as an array of the type that `direct` says; nil if that has another code.
  func array<Element>(_ direct: DirectType, _ code: UInt8, _ count: Int, at offset: Int) -> [Element]? {
    func numbers<Number: PackedScalar>(_ type: Number.Type) -> [Element]? {
      guard code == Number.scalarCode else { return nil }
      return unsafe unsafeBitCast(array(of: count, at: offset) as [Number], to: [Element].self)
    }
    return switch direct {
    case .uint8Array: numbers(UInt8.self)
    case .intArray: numbers(Int.self)
    case .int64Array: numbers(Int64.self)
    case .uintArray: numbers(UInt.self)
    case .uint64Array: numbers(UInt64.self)
    case .doubleArray: numbers(Double.self)
    case .floatArray: numbers(Float.self)
    case .int32Array: numbers(Int32.self)
    case .uint32Array: numbers(UInt32.self)
    case .int16Array: numbers(Int16.self)
    case .uint16Array: numbers(UInt16.self)
    case .int8Array: numbers(Int8.self)
    default: nil
    }
  }
}
