import Glibc

/// A generator (SplitMix64) with a seed, so that a failure can be repeated.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64
  public init(seed: Int) { state = UInt64(bitPattern: Int64(seed)) }
  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// The seed of this run: `MESSAGEPORTS_TEST_SEED`, or another one each time. Tests print it.
public func testSeed() -> Int {
  unsafe getenv("MESSAGEPORTS_TEST_SEED").flatMap { unsafe Int(String(cString: $0)) } ?? Int.random(in: 1...999_999)
}

/// Messages whose content can be checked: number `index` of `byteCount` bytes is the same in every process.
public enum Payload {
  public static let largestByteCount = 6 << 20

  private static let table: [UInt64] = {
    var random = SeededGenerator(seed: 42)
    return (0..<(largestByteCount / 8 + spread)).map { _ in random.next() }
  }()
  /// At how many places of the table messages begin.
  private static let spread = 1009

  public static func make(_ index: Int, byteCount: Int) -> [UInt8] {
    unsafe withBytes(index, byteCount) { unsafe [UInt8]($0) }
  }

  /// Whether these are the bytes of that message, of that size.
  public static func matches(_ bytes: [UInt8], _ index: Int, byteCount: Int) -> Bool {
    guard bytes.count == byteCount else { return false }
    guard byteCount > 0 else { return true }
    return unsafe withBytes(index, byteCount) { expected in
      unsafe bytes.withUnsafeBytes { unsafe memcmp($0.baseAddress!, expected.baseAddress!, byteCount) } == 0
    }
  }

  private static func withBytes<Result>(
    _ index: Int, _ byteCount: Int, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result {
    precondition(byteCount <= largestByteCount, "a message larger than the table")
    return unsafe table.withUnsafeBytes { bytes in
      let start = index % spread * 8
      return unsafe body(UnsafeRawBufferPointer(rebasing: bytes[start..<start + byteCount]))
    }
  }

  /// Sizes at which something changes: nothing, inline payloads, alignment, the smallest ring, a quarter of it and of
  /// the first grown one, fragments, the steady ring, the overflow.
  public static let interestingSizes: [Int] = [
    0, 1, 7, 8, 9, 15, 16, 17, 47, 48, 49, 50, 100, 367, 368, 375, 376, 377, 383, 384, 760, 1519, 1527, 1528, 1535,
    1536,
    1537, 2048, 4095, 4096, 4097, 16375, 16376, 16377, 65_535, 65_536, 65_537, 102_400, 131_063, 131_064, 131_065,
    131_071,
    131_072, 131_073, 262_143, 262_144, 1_048_576, 5_242_880,
  ]

  /// All interesting sizes and as many other small ones, in an order that the seed decides.
  public static func sizes(seed: Int) -> [Int] {
    var random = SeededGenerator(seed: seed)
    let others = (0..<interestingSizes.count).map { _ in Int.random(in: 0...3000, using: &random) }
    return (interestingSizes + others).shuffled(using: &random)
  }
}
