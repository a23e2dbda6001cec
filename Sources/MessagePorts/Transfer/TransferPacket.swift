import CSupport
import SharedRing

/// What travels through a channel's socket: one packet for each message that carries something.
///
///     | magic, 4 B | number of ports, 2 B | of descriptors, 1 B | how many of these are buffers, 1 B |
///     then for each port 16 words of 8 bytes:
///     |  0 which end (bit 0), a partial message follows (bit 8), its peer broke the protocol (bit 9)
///     |  1 queue limit, all ones: none      2 message limit
///     |  3 … 7   the outgoing lane's position: segment offset, capacity, cursor, position, segment's position
///     |  8 … 12  the incoming lane's position, likewise
///     | 13 a partially received message: its size   14 how much of it has come   15 zero
///
/// and with it the descriptor of a memory file, if any port has a partial message (see ``PartialFile``), then for each port
/// those of its socket and of its memory, and then the message's descriptors, of which nothing is said, but that the last of
/// them are buffers. What a buffer is, the kernel says. It delivers the packet whole or not at all.
///
/// The record that announces the packet is committed before it is sent; see ``RecordReader``.
///
/// A packet of a single byte is a doorbell: it wakes a receiver that sleeps on the socket, and says nothing else.
enum TransferPacket {
  static let doorbell: UInt8 = 1
  static let magic: UInt32 = 0x5450_4d02
  static let headerBytes = 8
  static let wordsPerPort = 16
  static let bytesPerPort = wordsPerPort * 8

  static func byteCount(_ cargo: CargoCount) -> Int { headerBytes + cargo.ports * bytesPerPort }

  static func firstWord(_ cargo: CargoCount, buffers: Int) -> UInt64 {
    UInt64(magic) | UInt64(cargo.ports) << 32 | UInt64(cargo.descriptors) << 48 | UInt64(buffers) << 56
  }

  /// How many of the announced descriptors are buffers; `nil` if this is not the first word of their packet.
  static func bufferCount(in firstWord: UInt64, of cargo: CargoCount) -> Int? {
    let count = Int(firstWord >> 56)
    return count <= cargo.descriptors && firstWord == self.firstWord(cargo, buffers: count) ? count : nil
  }
}

/// One port as it travels: what is not in its memory.
struct TravellingPort {
  var end: Int
  var queueLimitBytes: Int?
  var messageLimitBytes: Int
  var outgoing: LanePosition
  var incoming: LanePosition
  var partial: (byteCount: Int, filled: Int)?
  /// The incoming lane is not read any more, and its position says nothing: the port's peer broke the protocol.
  var isPeerViolator: Bool

  var words: [UInt64] {
    [
      UInt64(end) | (partial == nil ? 0 : 1 << 8) | (isPeerViolator ? 1 << 9 : 0),
      queueLimitBytes.map(UInt64.init) ?? .max,
      UInt64(messageLimitBytes),
    ] + outgoing.words + incoming.words + [UInt64(partial?.byteCount ?? 0), UInt64(partial?.filled ?? 0), 0]
  }

  /// Takes the words apart; `nil` if no correct peer can have written them. Positions are checked on attaching.
  init?(words: ArraySlice<UInt64>) {
    let w = Array(words)
    guard w.count == TransferPacket.wordsPerPort, w[0] & ~0x301 == 0,
      w[2] <= UInt64(ChannelOptions.largestMessageLimit), w[1] == .max || w[1] <= UInt64(Int.max)
    else { return nil }
    end = Int(w[0] & 1)
    queueLimitBytes = w[1] == .max ? nil : Int(w[1])
    messageLimitBytes = Int(w[2])
    isPeerViolator = w[0] & 0x200 != 0
    outgoing = LanePosition(words: w[3..<8])
    incoming = LanePosition(words: w[8..<13])
    if w[0] & 0x100 != 0 {
      guard w[13] <= UInt64(messageLimitBytes), w[14] > 0, w[14] < w[13] else { return nil }
      partial = (byteCount: Int(w[13]), filled: Int(w[14]))
    }
  }

  init(
    end: Int, queueLimitBytes: Int?, messageLimitBytes: Int, outgoing: LanePosition, incoming: LanePosition,
    partial: (byteCount: Int, filled: Int)?, isPeerViolator: Bool
  ) {
    self.end = end
    self.queueLimitBytes = queueLimitBytes
    self.messageLimitBytes = messageLimitBytes
    self.outgoing = outgoing
    self.incoming = incoming
    self.partial = partial
    self.isPeerViolator = isPeerViolator
  }
}

extension LanePosition {
  var words: [UInt64] { [segmentOffset, capacity, cursorOffset, position, segmentPosition] }

  init(words: ArraySlice<UInt64>) {
    let i = words.startIndex
    self.init(
      segmentOffset: words[i], capacity: words[i + 1], cursorOffset: words[i + 2], position: words[i + 3],
      segmentPosition: words[i + 4])
  }
}
