import MessagePorts

/// Where the far end of a test lives. One body, two modes.
public enum Place: String, Sendable, CaseIterable, CustomStringConvertible {
  /// Here: the channel stays local.
  case thisProcess = "this process"
  /// In `TestPeer`: the channel lies in shared memory.
  case anotherProcess = "another process"

  public var description: String { rawValue }

  /// Makes a channel, lets the far end play `role` on one port, and returns the other.
  ///
  /// - Parameter extra: ports that the far end is given besides.
  public func open(
    _ role: FarRole, _ arguments: [Int] = [], options: ChannelOptions = ChannelOptions(), extra: [MessagePort] = []
  ) throws -> MessagePort {
    let channel = try MessageChannel(options: options)
    switch self {
    case .thisProcess: role.play(on: [channel.port2] + extra, arguments)
    case .anotherProcess: try place(channel.port2, role, arguments, extra: extra)
    }
    return channel.port1
  }

  /// Transfers a port to the far end, to play `role` on it.
  public func place(_ port: MessagePort, _ role: FarRole, _ arguments: [Int] = [], extra: [MessagePort] = []) throws {
    switch self {
    case .thisProcess:
      let carrier = try MessageChannel()
      try carrier.port1.postMessage(bytes: [], transfer: [port] + extra)
      role.play(on: try carrier.port2.receiveSoon().ports, arguments)
    case .anotherProcess: try FarProcess.shared.place([port] + extra, role, arguments)
    }
  }
}
