import MessagePorts
import TestSupport

/// A channel whose second port is split, and whose first one is still a port.
struct Split: ~Copyable {

  let port: MessagePort
  var writer: PortWriter
  var reader: PortReader

  init(_ options: ChannelOptions = ChannelOptions()) throws {
    let channel = try MessageChannel(options: options)
    self.init(channel.port1, try channel.port2.split())
  }

  private init(_ port: MessagePort, _ halves: PortHalves) {
    self.port = port
    writer = halves.takeWriter()
    reader = halves.takeReader()
  }

  mutating func expect(_ number: Int, within limit: Duration = patience) throws {
    let found = try reader.readSoon(within: limit) { bytes in
      bytes.byteCount == 8 ? unsafe bytes.unsafeLoadUnaligned(as: Int.self) : -bytes.byteCount
    }
    if found != number { throw Agent.Failure(description: "\(found) instead of \(number)") }
  }
}

func takeNumber(_ port: MessagePort) throws -> Int {
  try port.receiveSoon().load(as: Int.self)
}

/// Why a reader finds nothing more.
func end(of reader: inout PortReader) -> String {
  do {
    let count = try reader.readSoon { $0.byteCount }
    return "a message of \(count) bytes"
  } catch PortError.peerClosed(let reason) {
    return "\(reason)"
  } catch {
    return "\(error)"
  }
}

/// The ends of a channel that lies in shared memory, although both are here.
func sharedChannelHere() throws -> (MessagePort, MessagePort) {
  let channel = try MessageChannel()
  let halves = try channel.port2.split()
  return (channel.port1, try MessagePort(joining: halves.takeWriter(), halves.takeReader()))
}
