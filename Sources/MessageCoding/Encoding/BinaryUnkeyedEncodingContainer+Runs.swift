// Sequences of numbers become runs. For other sequences the default implementation calls `encode` for each element.
extension BinaryUnkeyedEncodingContainer {
  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == Double {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == Float {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == Int {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == Int8 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == Int16 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == Int32 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == Int64 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == Int128 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == UInt {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == UInt8 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == UInt16 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == UInt32 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == UInt64 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  func encode<S: Sequence>(contentsOf sequence: S) throws where S.Element == UInt128 {
    if try !writeRun(sequence) { for number in sequence { try encode(number) } }
  }

  /// Writes the elements as a run; false, and writes nothing, if they are not contiguous in memory.
  @inline(__always)
  private func writeRun<S: Sequence>(_ sequence: S) throws -> Bool where S.Element: PackedScalar {
    let isWritten: Void? = try sequence.withContiguousStorageIfAvailable { numbers in
      guard !numbers.isEmpty else { return }
      try session.state.write(frame, sequence) {
        unsafe session.state.bytes.append(run: numbers)
        // Too many numbers for four bytes do not fit into the message, and the writer has failed.
        session.state.frames[Int(frame.index)].count &+= UInt32(truncatingIfNeeded: numbers.count)
      }
    }
    return isWritten != nil
  }
}
