import Glibc
import TestSupport

/// The port on which a message is posted, and its number there, decide each of its bytes, so whoever receives it knows
/// what has to come.
///
/// A message that carries ports begins with a header that says which they are.
enum TortureMessage {
  /// The largest content.
  static let mostBytes = 4 << 20
  /// At how many places of the table a content may begin.
  private static let places = 1 << 17

  private static let table: [UInt64] = (0..<UInt64(mostBytes / 8 + places)).map { mix($0 &+ 0x7065_6163_6500) }

  /// Every bit of the result depends on every bit of the number.
  static func mix(_ number: UInt64) -> UInt64 {
    var generator = SeededGenerator(seed: Int(truncatingIfNeeded: number))
    return generator.next()
  }

  /// One message in this many has fewer than 8 bytes, perhaps none. Two of these may be alike, and each would be taken
  /// for the other, so there are never two among those that several threads can have in hand at once.
  private static let shortOnes = 32

  /// How large a content is: most are small, a few have mebibytes.
  private static func byteCount(_ hash: UInt64) -> Int {
    let (kind, number) = (hash % 1000, Int(hash >> 24))
    switch kind {
    case ..<600: return 8 + number % 249
    case ..<900: return number % (8 << 10)
    case ..<980: return number % (128 << 10)
    case ..<998: return number % (1 << 20)
    default: return number % (mostBytes + 1)
    }
  }

  /// Calls `body` with the content of message `number` of `port`.
  ///
  /// - Parameter isSmall: it has 64 bytes at most, as for a ring that does not grow.
  static func withContent<Result>(
    _ port: PortID, _ number: Int, isSmall: Bool, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    let isShort = number % shortOnes == 3
    let hash = mix(UInt64(port.rawValue) << 33 ^ UInt64(number) << 1 ^ (isSmall && !isShort ? 1 : 0))
    let count = isShort ? Int(hash >> 24) % 8 : isSmall ? 8 + Int(hash >> 24) % 57 : max(8, byteCount(hash))
    let place = Int(mix(hash) % UInt64(places)) * 8
    return try unsafe table.withUnsafeBytes { bytes in
      unsafe try body(UnsafeRawBufferPointer(rebasing: bytes[place..<place + count]))
    }
  }

  /// The ports that travel with a message, and for which stop of their journey.
  struct Cargo: Equatable {
    var round: Int
    var hop: Int
    var ports: [PortID]
    /// See ``TortureStop``. It travels with the ports, because they may arrive before the orders.
    var mayMissOne: Bool

    private static let magic: UInt64 = 0x746f_7274_7572_6521

    func header(_ port: PortID, _ number: Int) -> [UInt64] {
      let place = UInt64(hop) << 1 | (mayMissOne ? 1 : 0)
      var words = [Self.magic, UInt64(port.rawValue), UInt64(number), UInt64(round), place, UInt64(ports.count)]
      words += ports.map { UInt64($0.rawValue) }
      return words + [words.reduce(0) { mix($0 ^ $1) }]
    }

    /// What a message that begins like this carries; `nil` unless it is message `number` of `port`.
    init?(_ bytes: UnsafeRawBufferPointer, _ port: PortID, _ number: Int, portCount: Int) {
      guard bytes.count >= (portCount + 7) * 8 else { return nil }
      let words = (0..<portCount + 7).map { unsafe bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self) }
      round = Int(truncatingIfNeeded: words[3])
      hop = Int(truncatingIfNeeded: words[4] >> 1)
      mayMissOne = words[4] & 1 == 1
      ports = words[6..<6 + portCount].map { PortID(rawValue: UInt32(truncatingIfNeeded: $0)) }
      guard round >= 0, hop >= 0, words == header(port, number) else { return nil }
    }

    init(round: Int, hop: Int, ports: [PortID], mayMissOne: Bool) {
      (self.round, self.hop, self.ports, self.mayMissOne) = (round, hop, ports, mayMissOne)
    }
  }

  /// All bytes of a message that carries ports.
  static func bytes(_ port: PortID, _ number: Int, _ cargo: Cargo) -> [UInt8] {
    let header = cargo.header(port, number).flatMap { word in
      (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
    }
    return unsafe withContent(port, number, isSmall: false) { unsafe header + [UInt8]($0) }
  }

  enum Content {
    case plain
    case cargo(Cargo)
  }

  /// Whether this is message `number` of `port`, to the last byte; `nil` if it is not.
  static func recognize(
    _ bytes: UnsafeRawBufferPointer, _ port: PortID, _ number: Int, portCount: Int
  ) -> Content? {
    if portCount > 0 {
      guard let cargo = unsafe Cargo(bytes, port, number, portCount: portCount) else { return nil }
      let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[((portCount + 7) * 8)...])
      return unsafe equals(rest, port, number, isSmall: false) ? .cargo(cargo) : nil
    }
    let isIt = [false, true].contains { unsafe equals(bytes, port, number, isSmall: $0) }
    return isIt ? .plain : nil
  }

  private static func equals(_ bytes: UnsafeRawBufferPointer, _ port: PortID, _ number: Int, isSmall: Bool) -> Bool {
    unsafe withContent(port, number, isSmall: isSmall) { expected in
      guard expected.count == bytes.count else { return false }
      guard expected.count > 0 else { return true }
      return unsafe memcmp(expected.baseAddress!, bytes.baseAddress!, bytes.count) == 0
    }
  }
}
