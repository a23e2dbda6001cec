/// The UTF-8 of a key, during a call.
///
/// Handing on a `String` would count references to it at each step, even of a short one, which has none to count.
///
/// `@safe`: exists in `withBytes` only, and is not kept by what that calls.
@safe struct KeyBytes {
  let pointer: UnsafePointer<UInt8>?
  let count: Int

  /// The key as text again.
  var string: String {
    unsafe String(decoding: UnsafeBufferPointer(start: pointer, count: count), as: UTF8.self)
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
