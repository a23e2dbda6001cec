/// The word in front of every record, and the record's commit: zero means "not yet".
///
///     bit 0                31 32     39 40   47 48         55 56    63
///     | payload length, bytes | kind   | ports * | descriptors * | zero |
///
/// * How many come with the message. In a run, the two together are the size of each of its messages, in units of eight
///   bytes.
///
/// A record is the header, the payload, and padding to a multiple of eight; it starts at a multiple of eight.
@usableFromInline package struct RecordHeader: Hashable, Sendable {
  @usableFromInline package enum Kind: UInt8, Sendable {
    /// A whole message.
    case message = 1
    /// Nothing: it fills the rest of the segment, and the next record is at the segment's start.
    case pad = 2
    /// The lane continues in another segment: the payload is its offset in the file and its capacity, 8 bytes each.
    case link = 3
    /// The first part of a message; the payload begins with the message's length, 8 bytes.
    case firstFragment = 4
    case middleFragment = 5
    case lastFragment = 6
    /// The message that the fragments before it belong to will not be completed: forget them.
    case abort = 7
    /// Messages of one size without ports, one right behind the other; see ``RunHeader``.
    case run = 8
    /// The message right before, which announces a packet, is void: the kernel has refused that.
    case withdrawal = 9
  }

  @usableFromInline package var rawValue: UInt64

  @inlinable package init(rawValue: UInt64) { self.rawValue = rawValue }

  @inlinable package init(kind: Kind, byteCount: Int) {
    rawValue = UInt64(truncatingIfNeeded: byteCount) & 0xffff_ffff | UInt64(kind.rawValue) << 32
  }

  /// The header of a run.
  @inlinable package init(runOf byteCount: Int, unitsPerMessage: Int) {
    self.init(kind: .run, byteCount: byteCount)
    rawValue |= UInt64(truncatingIfNeeded: unitsPerMessage) << 40
  }

  /// The upper half of a message's header, if nothing comes with it: one comparison recognises the common case.
  @inlinable package static var plainMessage: UInt64 { 1 }

  @inlinable package var byteCount: Int { Int(truncatingIfNeeded: rawValue & 0xffff_ffff) }
  @inlinable package var kind: Kind? {
    rawValue >> 56 == 0 ? Kind(rawValue: UInt8(truncatingIfNeeded: rawValue >> 32)) : nil
  }
  @inlinable package var unitsPerMessage: Int { Int(truncatingIfNeeded: rawValue >> 40 & 0xffff) }
  /// What comes in a packet, if the record is the end of a message.
  package var cargo: CargoCount {
    CargoCount(
      ports: Int(truncatingIfNeeded: rawValue >> 40 & 0xff), descriptors: Int(truncatingIfNeeded: rawValue >> 48 & 0xff)
    )
  }

  /// The one form of a withdrawal.
  package static var withdrawn: RecordHeader { RecordHeader(kind: .withdrawal, byteCount: 0) }

  /// Whether the record completes a message with which a packet comes.
  package var announcesPacket: Bool { rawValue >> 40 & 0xffff != 0 && (kind == .message || kind == .lastFragment) }

  /// The same record, announcing a packet with so many of each: 0 to 255.
  package func carrying(_ cargo: CargoCount) -> RecordHeader {
    let counts =
      UInt64(truncatingIfNeeded: cargo.ports & 0xff) | UInt64(truncatingIfNeeded: cargo.descriptors & 0xff) << 8
    return RecordHeader(rawValue: rawValue & ~(0xffff << 40) | counts << 40)
  }

  /// The size of a header, and the alignment of records.
  @inlinable package static var byteCount: Int { 8 }

  /// How many bytes a record with this payload occupies. Wraps instead of trapping: check the payload first.
  @inlinable package static func recordBytes(payloadBytes: Int) -> Int { (payloadBytes &+ 15) & ~7 }
}

/// How much comes with a message besides its bytes.
package struct CargoCount: Hashable, Sendable {
  package var ports: Int
  package var descriptors: Int

  package init(ports: Int, descriptors: Int = 0) {
    self.ports = ports
    self.descriptors = descriptors
  }
}
