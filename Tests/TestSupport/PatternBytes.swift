import Glibc
import MessagePorts

/// Bytes that differ by place and by seed.
public func patternBytes(count: Int, seed: UInt64) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  unsafe bytes.withUnsafeMutableBytes { buffer in
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    var index = 0
    while index + 8 <= count {
      state = state &* 6_364_136_223_846_793_005 &+ 1
      unsafe buffer.storeBytes(of: state, toByteOffset: index, as: UInt64.self)
      index += 8
    }
    while index < count {
      unsafe buffer[index] = UInt8(truncatingIfNeeded: state >> 40) &+ UInt8(truncatingIfNeeded: index)
      index += 1
    }
  }
  return bytes
}

private let blockBytes = 64 << 10

/// Bytes that are quick to make and to check, even without optimisation: blocks of 64 KiB, each beginning with its number.
public func blocks(_ count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0x5a, count: count * blockBytes)
  unsafe bytes.withUnsafeMutableBytes { buffer in
    for index in 0..<count {
      unsafe buffer.storeBytes(of: UInt64(index), toByteOffset: index * blockBytes, as: UInt64.self)
    }
  }
  return bytes
}

extension MessageEvent {
  /// Checks that the message is what ``blocks(_:)`` makes.
  public func checkBlocks(_ count: Int) throws {
    guard byteCount == count * blockBytes else { throw Agent.Failure(description: "\(byteCount) bytes") }
    var expected = blocks(1)
    try withBytes { span in
      try unsafe span.withUnsafeBytes { buffer in
        for index in 0..<count {
          unsafe expected.withUnsafeMutableBytes { unsafe $0.storeBytes(of: UInt64(index), as: UInt64.self) }
          guard unsafe memcmp(expected, buffer.baseAddress! + index * blockBytes, blockBytes) == 0 else {
            throw Agent.Failure(description: "block \(index) differs")
          }
        }
      }
    }
  }
}
