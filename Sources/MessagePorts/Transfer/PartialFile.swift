import CSupport
import Glibc
import SharedRing

/// The parts of large messages that had come when their ports moved on, in one file that moves with them: in the ports'
/// order, each at the beginning of a page. So they cannot overlap, and whoever reads them takes no more memory than the
/// file has.
struct PartialFile: ~Copyable {
  /// The file's descriptor, closed with this.
  let descriptor: CInt
  /// Where the next part to be read begins.
  private var offset = 0

  private init(owning descriptor: CInt) { self.descriptor = descriptor }

  deinit { csupport_memory_close(descriptor) }

  /// How much of the file a part takes.
  private static func room(for filled: Int) -> Int {
    (filled + RingLayout.pageBytes - 1) / RingLayout.pageBytes * RingLayout.pageBytes
  }

  private static func byteCount(of sizes: [Int]) -> Int { sizes.reduce(0) { $0 + room(for: $1) } }

  /// Makes a file of the first `filled` bytes of each message.
  static func make(_ parts: [(bytes: OwnedBytes, filled: Int)]) throws(SystemError) -> PartialFile {
    let byteCount = UInt64(byteCount(of: parts.map(\.filled)))
    var file = PartialFile(owning: try check("memfd_create") { csupport_memory_create_sealed(byteCount) })
    try check("fallocate") { csupport_memory_reserve(file.descriptor, 0, byteCount) }
    for part in parts {
      let mapping = try file.mapNext(part.filled)
      part.bytes.withBytes { span in
        unsafe span.extracting(first: part.filled).withUnsafeBytes { source in
          unsafe UnsafeMutableRawBufferPointer(start: mapping.address, count: part.filled).copyMemory(from: source)
        }
      }
    }
    return file
  }

  /// Takes such a file over, to read parts of these sizes; `nil` if it is not one.
  static func open(owning descriptor: CInt, sizes: [Int], acceptsUnsealed: Bool) -> PartialFile? {
    let byteCount = UInt64(byteCount(of: sizes))
    // A hole is more than its sender ever had: we would take memory for it.
    guard let file = try? InspectedMemory(owning: descriptor, trustingUnsealed: acceptsUnsealed),
      file.byteCount >= byteCount, file.allocatedByteCount >= byteCount
    else { return nil }
    return PartialFile(owning: file.take())
  }

  /// Reads the next part into a message of `byteCount` bytes; `nil` if there is no memory for it.
  mutating func read(byteCount: Int, filled: Int) -> OwnedBytes? {
    defer { offset += Self.room(for: filled) }
    guard let bytes = OwnedBytes(byteCount: byteCount) else { return nil }
    // Not mapped: memory that somebody cuts off, or that the system has no page for, is no signal then.
    let isRead = unsafe bytes.withMutableBytes { target -> Bool in
      var done = 0
      while done < filled {
        let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done..<filled])
        let count = unsafe csupport_memory_read(descriptor, UInt64(offset + done), rest.baseAddress, rest.count)
        if count > 0 { done += count } else if count != -Int(EINTR) { return false }
      }
      return true
    }
    return isRead ? bytes : nil
  }

  private mutating func mapNext(_ filled: Int) throws(SystemError) -> Mapping {
    defer { offset += Self.room(for: filled) }
    return try Mapping(fd: descriptor, fileOffset: UInt64(offset), byteCount: filled)
  }
}
