/// The UTF-8 of a key, during a call.
///
/// Handing on a `String` would count references to it at each step, even to a short one, which has none to count.
///
/// `@safe`: it exists only during `withBytes`, and nothing that this calls keeps it.
@safe struct KeyBytes {
  let pointer: UnsafePointer<UInt8>?
  let count: Int

  /// Of the bytes, since keys are equal if their bytes are. That of a `String` would normalize it first.
  var hash: UInt32 {
    var hasher = Hasher()
    unsafe hasher.combine(bytes: UnsafeRawBufferPointer(start: pointer, count: count))
    return UInt32(truncatingIfNeeded: hasher.finalize())
  }
}

extension CodingKey {
  @inline(__always)
  func withBytes<Result>(_ body: (KeyBytes) throws -> Result) rethrows -> Result {
    var string = stringValue
    return try string.withUTF8 { utf8 in
      try unsafe body(KeyBytes(pointer: utf8.baseAddress, count: utf8.count))
    }
  }
}
