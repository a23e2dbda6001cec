/// The bytes that the fuzzer chose, read from the front as the decisions they stand for. At the end everything is zero.
struct FuzzInput {
  private let bytes: [UInt8]
  private var next = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var isAtEnd: Bool { next >= bytes.count }

  mutating func byte() -> UInt8 {
    guard next < bytes.count else { return 0 }
    defer { next += 1 }
    return bytes[next]
  }

  mutating func below(_ bound: Int) -> Int { Int(byte()) % bound }
  mutating func half() -> UInt16 { UInt16(byte()) | UInt16(byte()) << 8 }
  mutating func word() -> UInt64 { (0..<8).reduce(0) { $0 | UInt64(byte()) << (8 * UInt64($1)) } }

  /// At most `count`.
  mutating func take(_ count: Int) -> ArraySlice<UInt8> {
    let end = min(next + count, bytes.count)
    defer { next = end }
    return bytes[next..<end]
  }

  mutating func rest() -> ArraySlice<UInt8> { take(bytes.count) }
}

/// Writes what ``FuzzInput`` reads: seeds are made with it.
struct SeedWriter {
  private(set) var bytes: [UInt8] = []

  mutating func byte(_ value: some BinaryInteger) { bytes.append(UInt8(truncatingIfNeeded: value)) }
  mutating func half(_ value: some BinaryInteger) {
    byte(value)
    byte(value >> 8)
  }
  mutating func word(_ value: UInt64) { for shift in 0..<8 { byte(value >> (8 * UInt64(shift))) } }
  mutating func add(_ more: [UInt8]) { bytes += more }

  static func make(_ body: (inout SeedWriter) -> Void) -> [UInt8] {
    var writer = SeedWriter()
    body(&writer)
    return writer.bytes
  }
}
