import Glibc
public import MessagePorts

extension MessageBuffer {
  /// What it is, and a sum over its first and last bytes.
  public func described() throws -> String {
    switch self {
    case .frozen(let buffer): "frozen \(byteCount) \(checksum(try buffer.bytes()))"
    case .shared(let buffer): "shared \(byteCount) \(checksum(try buffer.read(0..<byteCount)))"
    }
  }
}

/// Differs for bytes that differ near the beginning or the end, as far as tests go.
public func checksum(_ bytes: some RandomAccessCollection<UInt8>) -> UInt64 {
  [bytes.prefix(10_000), bytes.suffix(10_000)].joined()
    .reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
}

/// What this process has open.
public enum OpenMemory {
  /// Descriptors of memory files of a size that no other test has.
  public static func descriptors(byteCount: Int) -> [CInt] {
    entries(of: "/proc/self/fd").compactMap { CInt($0) }
      .filter { number in
        linkTarget("/proc/self/fd/\(number)")?.hasPrefix("/memfd:") == true
          && lseek(number, 0, SEEK_END) == byteCount
      }
  }
}
