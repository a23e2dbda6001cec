import Glibc
import MessagePorts

/// What the victim posts: the number of a message decides each byte of it.
enum Letters {
  /// Mostly small, so that there are many; some take fragments, and some more than a lane keeps.
  static func byteCount(_ number: Int) -> Int {
    switch number % 40 {
    case 17: 300_000
    case 37: 1_500_000
    default: 8 + number % 120
    }
  }

  /// The first eight bytes are the number, and in the last of them stands what comes along: see ``Parcels/count``.
  static func make(_ number: Int, parcels: Int = 0) -> [UInt8] {
    var bytes = [UInt8](repeating: fill(number), count: byteCount(number))
    for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: number >> (8 * index)) }
    bytes[7] = UInt8(parcels)
    return bytes
  }

  /// Large letters posted to a port while it moves. Each says which port's it is, and which one.
  static func part(_ index: Int, ofPort number: Int) -> Int { (number * Survivor.lettersPerPort + index) * 40 + 37 }

  static func readPart(_ number: Int) -> (index: Int, port: Int)? {
    guard number % 40 == 37, number >= 40 * Survivor.lettersPerPort else { return nil }
    return (number / 40 % Survivor.lettersPerPort, number / 40 / Survivor.lettersPerPort)
  }

  /// What comes along with a message.
  static func parcels(_ event: MessageEvent) -> Int {
    guard event.byteCount >= 8 else { return 0 }
    return event.withBytes { unsafe Int($0.unsafeLoad(fromByteOffset: 7, as: UInt8.self)) }
  }

  private static func fill(_ number: Int) -> UInt8 { UInt8(truncatingIfNeeded: number &* 37 &+ 11) }

  /// What is wrong with a message that should be this one.
  static func fault(_ event: MessageEvent, _ number: Int) -> String? {
    guard event.byteCount >= 8 else { return "\(event.byteCount) bytes instead of message \(number)" }
    return event.withBytes { span in
      let found = unsafe span.unsafeLoadUnaligned(as: Int.self) & (1 << 56 - 1)
      guard found == number else { return "message \(found) instead of \(number)" }
      guard span.byteCount == byteCount(number) else { return "message \(number) has \(span.byteCount) bytes" }
      let isWhole = unsafe span.withUnsafeBytes { bytes in
        guard bytes.count > 8 else { return true }
        let (first, count) = unsafe (bytes.baseAddress! + 8, bytes.count - 8)
        return unsafe bytes[8] == fill(number) && memcmp(first, first + 1, count - 1) == 0
      }
      return isWhole ? nil : "message \(number) is torn"
    }
  }
}
