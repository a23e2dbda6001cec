import MessagePorts
import TestSupport

let portRoles: [String: Role] = [
  "echo": echo,
  "far": far,
  "lone": lone,
]

/// Sends everything that comes on a port back on the same port, ports included.
@Sendable private func echo(_ arguments: [String], _ parent: Connection) {
  parent.on("port") { event in
    for port in event.ports {
      port.onMessage = { [weak port] message in try? port?.postMessage(bytes: message.bytes, transfer: message.ports) }
    }
  }
}

/// Plays the roles that the tests ask for, see `FarRole`.
@Sendable private func far(_ arguments: [String], _ parent: Connection) { parent.on("play", FarProcess.play) }

/// Measures something in a process in which nothing else happens, see `LoneProcess`.
@Sendable private func lone(_ arguments: [String], _ parent: Connection) throws {
  try LoneProcess.play(arguments[0], parent)
}
