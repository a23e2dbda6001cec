import CSupport
import Glibc
import MessagePorts

/// Descriptors and buffers that go with a message: each says which message's it is.
struct Parcels {
  var descriptors: [Descriptor] = []
  var buffers: [MessageBuffer] = []

  /// More than a page.
  private static let bufferBytes = 5000

  init() {}

  /// - Parameter number: of the message.
  init(_ number: Int, descriptors: Int, buffers: Int) throws {
    for _ in 0..<descriptors { self.descriptors.append(try Self.pipe(number).reading) }
    for index in 0..<buffers {
      var memory = try SharedBuffer(byteCount: Self.bufferBytes)
      try memory.store(number, at: 0)
      try memory.store(number, at: Self.bufferBytes - 8)
      self.buffers.append(index % 2 == 0 ? .frozen(try memory.freeze()) : .shared(try memory.share()))
    }
  }

  /// How many there are, in one byte.
  var count: Int { descriptors.count << 4 | buffers.count }

  /// A pipe in which a number waits. `writing` is the caller's: it says whether anybody has the other end.
  static func pipe(_ number: Int) throws -> (reading: Descriptor, writing: Descriptor) {
    var (reader, writer): (CInt, CInt) = (-1, -1)
    let result = unsafe csupport_pipe(&reader, &writer)
    guard result >= 0 else { fatalError("no pipe: error \(-result)") }
    let (reading, writing) = (try Descriptor(owning: reader), try Descriptor(owning: writer))
    let written = writing.withNumber { fd in unsafe withUnsafeBytes(of: number) { unsafe write(fd, $0.baseAddress!, 8) }
    }
    guard written == 8 else { fatalError("a pipe takes nothing: error \(errno)") }
    return (reading, writing)
  }

  /// What is wrong with what came along with message `number`.
  static func fault(_ descriptors: [Descriptor], _ buffers: [MessageBuffer], _ number: Int, count: Int) -> String? {
    guard descriptors.count << 4 | buffers.count == count else {
      let wanted = "\(count >> 4) and \(count & 15)"
      return "\(descriptors.count) descriptors and \(buffers.count) buffers with message \(number), and not \(wanted)"
    }
    for descriptor in descriptors {
      var found = 0
      let count = descriptor.withNumber { fd in
        unsafe withUnsafeMutableBytes(of: &found) { unsafe read(fd, $0.baseAddress!, 8) }
      }
      guard count == 8, found == number else { return "message \(number) has the descriptor of \(found)" }
    }
    for (index, buffer) in buffers.enumerated() {
      do {
        for place in [0, bufferBytes - 8] {
          let found: Int
          switch buffer {
          case .frozen(let buffer) where index % 2 == 0: found = try buffer.bytes().load(as: Int.self, at: place)
          case .shared(let buffer) where index % 2 == 1: found = try buffer.load(as: Int.self, at: place)
          default: return "message \(number) has a buffer of the other kind"
          }
          guard found == number else { return "message \(number) has the buffer of \(found)" }
        }
      } catch {
        return "message \(number) has a buffer that cannot be read: \(error)"
      }
    }
    return nil
  }
}

extension Descriptor {
  /// It is known to be open.
  func withNumber<Result>(_ body: (CInt) -> Result) -> Result {
    do { return try withDescriptor(body) } catch { fatalError("a descriptor is not open: \(error)") }
  }

  /// Of a pipe's writing end: nobody can read any more.
  var hasNoReader: Bool {
    withNumber { fd in
      var entry = pollfd(fd: fd, events: 0, revents: 0)
      return unsafe poll(&entry, 1, 0) == 1 && entry.revents & Int16(POLLERR) != 0
    }
  }
}
