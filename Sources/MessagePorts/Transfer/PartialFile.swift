import CSupport
import Glibc
import SharedRing

/// The parts of large messages that had come when their ports moved on, in one file that moves with them: in the ports'
/// order, each at the beginning of a page. So they cannot overlap, and whoever reads them takes no more memory than the
/// file has.
final class PartialFile: Sendable {
  /// The file's descriptor, closed with this.
  let descriptor: CInt

  private init(owning descriptor: CInt) { self.descriptor = descriptor }

  deinit { csupport_memory_close(descriptor) }

  /// How much of the file a part takes.
  static func room(for filled: Int) -> Int {
    (filled + RingLayout.pageBytes - 1) / RingLayout.pageBytes * RingLayout.pageBytes
  }

  private static func byteCount(of sizes: [Int]) -> Int { sizes.reduce(0) { $0 + room(for: $1) } }

  /// Makes a file of the first `filled` bytes of each message.
  static func make(_ parts: [(bytes: OwnedBytes, filled: Int)]) throws(SystemError) -> PartialFile {
    let byteCount = UInt64(byteCount(of: parts.map(\.filled)))
    let file = PartialFile(owning: try check("memfd_create") { csupport_memory_create_sealed(byteCount) })
    try check("fallocate") { csupport_memory_reserve(file.descriptor, 0, byteCount) }
    var offset = 0
    for part in parts {
      let mapping = try Mapping(fd: file.descriptor, fileOffset: UInt64(offset), byteCount: part.filled)
      part.bytes.withBytes { span in
        unsafe span.extracting(first: part.filled).withUnsafeBytes { source in
          unsafe UnsafeMutableRawBufferPointer(start: mapping.address, count: part.filled).copyMemory(from: source)
        }
      }
      offset += room(for: part.filled)
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
}

/// A part that has come with a port, and is read when the port's next message is looked for: not on arrival, where many ports
/// with large parts would keep others waiting.
struct ArrivingPart: Sendable {
  /// The message that it is the beginning of.
  let bytes: OwnedBytes
  /// How long the part is.
  let filled: Int
  private let file: PartialFile
  private let offset: Int
  private var done = 0

  /// `nil`: there is no memory for the message.
  init?(byteCount: Int, filled: Int, in file: PartialFile, at offset: Int) {
    guard let bytes = OwnedBytes(byteCount: byteCount) else { return nil }
    self.bytes = bytes
    self.filled = filled
    self.file = file
    self.offset = offset
  }

  var isComplete: Bool { done == filled }

  /// Reads up to `most` bytes more. Returns how many; `nil`: the file does not have them.
  mutating func read(upTo most: Int) -> Int? {
    let (start, end) = (done, min(filled, done + most))
    // Not mapped: memory that somebody cuts off, or that the system has no page for, is no signal then.
    let isRead = unsafe bytes.withMutableBytes { target -> Bool in
      while done < end {
        let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done..<end])
        let count = unsafe csupport_memory_read(file.descriptor, UInt64(offset + done), rest.baseAddress, rest.count)
        if count > 0 { done += count } else if count != -Int(EINTR) { return false }
      }
      return true
    }
    if isComplete { crashPoint(.partRead) }
    return isRead ? done - start : nil
  }
}
