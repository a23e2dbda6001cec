// What is sent, and how it is checked: as the peers do it, so that all figures include the same work.
//
//     | sequence: 8 | body: a pattern | sequence again, mixed: 8 |     8-byte messages are the sequence alone.
//
// The receiver checks both ends of every message and the body of one in 256, so that a run that loses, repeats, reorders
// or tears messages gives no figure.

import Glibc

enum Message {
  /// Set in the sequence of the last one.
  static let last: UInt64 = 1 << 63
  static let tailMix: UInt64 = 0x9e37_79b9_7f4a_7c15

  struct Damaged: Error, CustomStringConvertible {
    let description: String
  }
}

/// A warm buffer for one message.
///
/// It begins at another offset in its page than messages in a ring: between equal offsets a load looks to the processor as
/// if it overlapped a store that is still in flight.
@safe
final class MessageBuffer: @unchecked Sendable {  // one thread at a time
  private let memory: UnsafeMutableRawBufferPointer
  let size: Int
  @unsafe let start: UnsafeMutableRawPointer

  init(size: Int) {
    self.size = size
    unsafe memory = .allocate(byteCount: size + 4096, alignment: 4096)
    unsafe start = unsafe memory.baseAddress! + 1024 + 64
    for i in 0..<size {
      unsafe start.storeBytes(of: UInt8(truncatingIfNeeded: i &* 131 &+ 7), toByteOffset: i, as: UInt8.self)
    }
  }

  deinit { unsafe memory.deallocate() }

  @unsafe var raw: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(start: start, count: size) }

  /// What a message is copied into.
  @unsafe var target: UnsafeMutableRawBufferPointer { unsafe UnsafeMutableRawBufferPointer(start: start, count: size) }

  @inline(__always)
  func stamp(_ sequence: UInt64) {
    if size >= 16 { unsafe (start + size - 8).storeBytes(of: sequence ^ Message.tailMix, as: UInt64.self) }
    unsafe start.storeBytes(of: sequence, as: UInt64.self)
  }

  /// Copies a message out of wherever it lies.
  @inline(__always)
  func copy(_ message: RawSpan) -> Bool {
    guard message.byteCount == size else { return false }
    unsafe message.withUnsafeBytes { unsafe start.copyMemory(from: $0.baseAddress!, byteCount: size) }
    return true
  }
}

/// Looks at each message that arrives.
final class Checker {
  private let pattern: MessageBuffer
  private(set) var expected: UInt64 = 0

  init(size: Int) { pattern = MessageBuffer(size: size) }

  /// `true`: it was the last one.
  @inline(__always)
  func check(_ message: UnsafeRawBufferPointer) throws -> Bool {
    let size = message.count
    guard size == pattern.size else { throw Message.Damaged(description: "\(size) bytes instead of \(pattern.size)") }
    let sequence = unsafe message.loadUnaligned(as: UInt64.self)
    guard sequence & ~Message.last == expected else {
      throw Message.Damaged(description: "message \(sequence & ~Message.last) instead of \(expected)")
    }
    if size >= 16 {
      let tail = unsafe message.loadUnaligned(fromByteOffset: size - 8, as: UInt64.self)
      guard tail == sequence ^ Message.tailMix else {
        throw Message.Damaged(description: "the end is another message's")
      }
      if expected % 256 == 0 { try unsafe checkBody(message) }
    }
    expected &+= 1
    return sequence & Message.last != 0
  }

  @inline(never)
  private func checkBody(_ message: UnsafeRawBufferPointer) throws {
    guard unsafe memcmp(message.baseAddress! + 8, pattern.start + 8, pattern.size - 16) == 0
    else { throw Message.Damaged(description: "the body of message \(expected) is damaged") }
  }
}
