/// Which keys of a container were seen: few of them are compared with one another, at a glance, and many are hashed, which
/// takes as long as dozens of glances.
@usableFromInline struct SeenKeys {
  private static var most: Int { 24 }

  private let reader: ByteReader
  /// A glance at each key so far: equal for equal keys.
  private var glances: InlineArray<24, UInt64>
  private var offsets: InlineArray<24, UInt32>
  private var count = 0
  /// A bit for each glance so far: most new keys are known to be new without comparing any.
  private var bits: UInt64 = 0
  private var index: KeyIndex?

  init(_ reader: ByteReader) {
    self.reader = reader
    (glances, offsets) = (InlineArray(repeating: 0), InlineArray(repeating: 0))
  }

  /// Adds the key of the entry at `offset`; false if there was an equal one.
  @inline(__always)
  mutating func insert(_ offset: UInt32, from start: Int, to end: Int) -> Bool {
    count < Self.most ? insertAmongFew(offset, start, end) : insertAmongMany(offset, start, end)
  }

  @inline(never)
  private mutating func insertAmongMany(_ offset: UInt32, _ start: Int, _ end: Int) -> Bool {
    var index = index.take() ?? makeIndex()
    defer { self.index = index }
    return reader.withKey(from: start, to: end) { index.insert(offset, $0, in: reader) }
  }

  @inline(__always)
  private mutating func insertAmongFew(_ offset: UInt32, _ start: Int, _ end: Int) -> Bool {
    let glance = reader.glance(from: start, to: end)
    let bit = 1 as UInt64 &<< (glance &>> 58)
    if bits & bit != 0, isSeen(glance, start, end) { return false }
    bits |= bit
    (glances[count], offsets[count]) = (glance, offset)
    count &+= 1
    return true
  }

  @inline(never)
  private func isSeen(_ glance: UInt64, _ start: Int, _ end: Int) -> Bool {
    for other in 0..<count where glances[other] == glance {
      if reader.hasKey(from: start, to: end, at: Int(offsets[other])) { return true }
    }
    return false
  }

  private func makeIndex() -> KeyIndex {
    var index = KeyIndex()
    for entry in 0..<count {
      guard let key = reader.key(at: Int(offsets[entry]), before: reader.count) else { continue }
      _ = reader.withKey(from: key.start, to: key.end) { index.insert(offsets[entry], $0, in: reader) }
    }
    return index
  }
}

extension ByteReader {
  /// The first and last bytes of a key, and its length, mixed.
  @inline(__always)
  fileprivate func glance(from start: Int, to end: Int) -> UInt64 {
    let length = end &- start
    let (first, last): (UInt64, UInt64) =
      if length >= 8 {
        (number(at: start), number(at: end &- 8))
      } else if length >= 4 {
        (UInt64(number(at: start, as: UInt32.self)), UInt64(number(at: end &- 4, as: UInt32.self)))
      } else if length > 0 {
        (UInt64(byte(at: start)) | UInt64(byte(at: start &+ length / 2)) << 8, UInt64(byte(at: end &- 1)))
      } else {
        (0, 0)
      }
    return (first &* 0xC2B2_AE3D_27D4_EB4F ^ last ^ UInt64(truncatingIfNeeded: length)) &* 0x9E37_79B9_7F4A_7C15
  }

  /// Whether the entry at `offset` has the key between `start` and `end`.
  fileprivate func hasKey(from start: Int, to end: Int, at offset: Int) -> Bool {
    guard let other = key(at: offset, before: count), other.end - other.start == end - start else { return false }
    return withKey(from: start, to: end) { isEqual(at: other.start, to: $0) }
  }
}
