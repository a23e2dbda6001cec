import Glibc
import MessagePorts

/// A port's two halves, for as long as it is split.
struct TortureHalves: ~Copyable {
  var writer: PortWriter
  var reader: PortReader

  init(_ halves: PortHalves) {
    writer = halves.takeWriter()
    reader = halves.takeReader()
  }

  mutating func exchange(
    _ id: PortID, posts: Int, _ table: TortureTable, _ take: (UnsafeRawBufferPointer) -> Void
  ) throws {
    var left = posts
    do throws(PortError) {
      while left > 0 {
        let number = table[id, .posted]
        table[id, .attempted] = number + 1
        let wasWritten = try unsafe TortureMessage.withContent(id, number, isSmall: true) {
          (bytes) -> Result<Bool, PortError> in
          Result { () throws(PortError) in try unsafe writer.tryWrite(bytes.bytes) }
        }.get()
        if wasWritten {
          table[id, .posted] = number + 1
          left -= 1
        }
        _ = try reader.tryRead { bytes in unsafe bytes.withUnsafeBytes { unsafe take($0) } }
        if !wasWritten { usleep(50) }
      }
    } catch {
      // The other end may be killed; the port is told once it is joined again.
      guard case .peerClosed = error else { throw error }
    }
  }

  consuming func join() throws -> MessagePort { try MessagePort(joining: writer, reader) }
}
