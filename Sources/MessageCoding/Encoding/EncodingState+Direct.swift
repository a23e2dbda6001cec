extension EncodingState {
  /// Appends a value of a type that the format knows; false for other types.
  @inline(__always)
  func writeDirectly<T: Encodable>(_ value: T, depth: Int) -> Bool {
    let type = DirectType(T.self)
    return type == .other ? false : write(value, type, depth: depth)
  }

  private func write<T>(_ value: T, _ type: DirectType, depth: Int) -> Bool {
    switch type {
    case .other: return false
    case .bool: bytes.append(.boolean(cast(value, to: Bool.self)))
    case .string: bytes.append(string: cast(value, to: String.self))
    case .float: bytes.append(.float(cast(value, to: Float.self)))
    case .double: bytes.append(.double(cast(value, to: Double.self)))
    case .int: bytes.append(integer: cast(value, to: Int.self))
    case .int8: bytes.append(integer: cast(value, to: Int8.self))
    case .int16: bytes.append(integer: cast(value, to: Int16.self))
    case .int32: bytes.append(integer: cast(value, to: Int32.self))
    case .int64: bytes.append(integer: cast(value, to: Int64.self))
    case .int128: bytes.append(integer: cast(value, to: Int128.self))
    case .uint: bytes.append(integer: cast(value, to: UInt.self))
    case .uint8: bytes.append(integer: cast(value, to: UInt8.self))
    case .uint16: bytes.append(integer: cast(value, to: UInt16.self))
    case .uint32: bytes.append(integer: cast(value, to: UInt32.self))
    case .uint64: bytes.append(integer: cast(value, to: UInt64.self))
    case .uint128: bytes.append(integer: cast(value, to: UInt128.self))
    case .uint8Array: return write(array: cast(value, to: [UInt8].self), depth: depth)
    case .intArray: return write(array: cast(value, to: [Int].self), depth: depth)
    case .doubleArray: return write(array: cast(value, to: [Double].self), depth: depth)
    case .floatArray: return write(array: cast(value, to: [Float].self), depth: depth)
    case .int32Array: return write(array: cast(value, to: [Int32].self), depth: depth)
    case .uint32Array: return write(array: cast(value, to: [UInt32].self), depth: depth)
    case .int64Array: return write(array: cast(value, to: [Int64].self), depth: depth)
    case .uint64Array: return write(array: cast(value, to: [UInt64].self), depth: depth)
    case .uintArray: return write(array: cast(value, to: [UInt].self), depth: depth)
    case .int16Array: return write(array: cast(value, to: [Int16].self), depth: depth)
    case .uint16Array: return write(array: cast(value, to: [UInt16].self), depth: depth)
    case .int8Array: return write(array: cast(value, to: [Int8].self), depth: depth)
    }
    return true
  }

  private func write<Number: PackedScalar>(array: [Number], depth: Int) -> Bool {
    // At the limit of depth, leave it to the container to report this.
    guard depth <= maximumDepth else { return false }
    unsafe array.withUnsafeBufferPointer { unsafe bytes.append(array: $0) }
    return true
  }

  /// The value as what it is known to be; `as!` would look both types up.
  @inline(__always)
  private func cast<T, U>(_ value: T, to type: U.Type) -> U {
    unsafe unsafeBitCast(value, to: type)
  }
}
