// One end of a channel in the hands of an attacker: it speaks the protocol by hand, correctly up to the point where it
// does not.

import CSupport
import Glibc
package import SharedRing

/// The header word of a record, correct or not: the upper half of `ports` is the number of descriptors.
package func word(_ kind: UInt8, _ byteCount: UInt32 = 0, ports: UInt16 = 0, high: UInt8 = 0) -> UInt64 {
  UInt64(byteCount) | UInt64(kind) << 32 | UInt64(ports) << 40 | UInt64(high) << 56
}

package func word(
  _ kind: RecordHeader.Kind, _ byteCount: UInt32 = 0, ports: UInt16 = 0, descriptors: UInt8 = 0
) -> UInt64 {
  word(kind.rawValue, byteCount, ports: ports | UInt16(descriptors) << 8)
}

/// Descriptors for a packet, closed when this goes away.
package final class Descriptors: Sendable {
  package let all: [CInt]
  package init(_ fds: [CInt]) { all = fds }
  deinit { for fd in all { _ = csupport_close(fd) } }
}

package func copy(of fd: CInt) -> CInt { fcntl(fd, F_DUPFD_CLOEXEC, 0) }

/// One end of a shared channel, in the hands of somebody who knows how it works.
@safe
package final class RawEnd: @unchecked Sendable {  // each is used by one thread at a time, or for single words
  package let memory: ChannelMemory
  /// -1 once it is hung up.
  package private(set) var socket: CInt
  /// Posts on this lane, and reads on the other.
  package let end: Int
  private let mapping: Mapping
  /// Where the next record goes in the initial data.
  package var offset = 0

  package init(_ memory: ChannelMemory, end: Int, owning socket: CInt) throws {
    self.memory = memory
    self.end = end
    self.socket = socket
    mapping = try Mapping(fd: memory.fd, fileOffset: 0, byteCount: RingLayout.baseBytes(capacity: memory.laneCapacity))
  }

  deinit { hangUp() }

  package func hangUp() {
    if socket >= 0 { _ = csupport_close(socket) }
    socket = -1
  }

  // MARK: Memory

  /// Writes a word anywhere in the channel's header, which is not this end's business.
  package func scribble(_ value: UInt64, at offset: Int) {
    precondition(offset >= 0 && offset <= RingLayout.headerBytes - 8)
    unsafe mapping.address.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
  }

  private var data: Int { RingLayout.initialDataOffset(lane: end, capacity: memory.laneCapacity) }

  /// Writes a word anywhere in this end's ring.
  package func store(_ value: UInt64, at offset: Int) {
    precondition(offset >= 0 && offset <= memory.laneCapacity - 8)
    unsafe RecordHeader(rawValue: value).commit(at: mapping.address + data + offset)
  }

  /// Writes a record, with the header last, and "not yet" behind it; does not tell anybody.
  package func put(_ header: UInt64, _ payload: [UInt8] = []) {
    let words = (payload.count + 7) / 8
    for index in 0..<words {
      let bytes = payload[(8 * index)..<min(8 * index + 8, payload.count)]
      store(bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }, at: offset + 8 + 8 * index)
    }
    store(0, at: offset + 8 + 8 * words)
    store(header, at: offset)
    offset += 8 + 8 * words
  }

  package func put(_ header: UInt64, words: [UInt64]) {
    put(header, words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } })
  }

  /// Wakes whoever waits for messages, as a correct producer does.
  package func signal() {
    var producer = RingProducer(memory: memory, lane: end)
    if producer.consumerSleeps(), producer.wakeConsumer() { send([1]) }
  }

  /// A record, correct or not, of which the other end is told.
  package func post(_ header: UInt64, words: [UInt64] = []) {
    put(header, words: words)
    signal()
  }

  /// A correct message.
  package func post(_ bytes: [UInt8], ports: Int = 0) {
    put(word(.message, UInt32(bytes.count), ports: UInt16(ports)), bytes)
    signal()
  }

  /// A message with a packet as a correct peer posts it: its record, its packet, then the doorbell.
  package func post(
    _ bytes: [UInt8], ports: Int = 1, descriptors: Int = 0, packet: () throws -> Void
  ) rethrows {
    put(word(.message, UInt32(bytes.count), ports: UInt16(ports), descriptors: UInt8(descriptors)), bytes)
    try packet()
    signal()
  }

  /// The words that the victim reads of this end: what was released, whether somebody sleeps.
  package var theirLane: SharedWords { memory.words(lane: 1 - end) }
  package var ourLane: SharedWords { memory.words(lane: end) }

  // MARK: Socket

  @discardableResult
  package func send(_ bytes: [UInt8], _ fds: [CInt] = []) -> Int {
    unsafe csupport_send_packet(socket, bytes, bytes.count, fds, fds.count)
  }

  @discardableResult
  package func send(words: [UInt64], _ fds: [CInt] = []) -> Int {
    send(words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }, fds)
  }
}

/// What travels with a port, as in `TransferPacket.swift`, to be spoiled.
package struct ForgedPort {
  package static let magic: UInt64 = 0x5450_4d02
  package var words: [UInt64]
  package var fds: [CInt]

  /// The victim's end of a channel whose other end is `far`; `near` is the socket that travels.
  package init(_ far: RawEnd, near: CInt, queueLimit: UInt64 = .max, messageLimit: UInt64 = 1 << 20) {
    let place = [0, UInt64(far.memory.laneCapacity), 0, 0, 0] as [UInt64]
    words = [UInt64(1 - far.end), queueLimit, messageLimit] + place + place + [0, 0, 0]
    fds = [near, far.memory.fd]
  }

  /// - Parameter buffers: how many of the descriptors are said to be some.
  package static func header(_ count: Int, descriptors: Int = 0, buffers: Int = 0) -> UInt64 {
    magic | UInt64(count) << 32 | UInt64(descriptors) << 48 | UInt64(buffers) << 56
  }
}
