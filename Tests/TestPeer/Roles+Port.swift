import Glibc
import MessagePorts
import TestSupport

let portRoles: [String: Role] = [
  "echo": echo,
  "exits": exits,
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

/// Plays the roles that the tests ask for, see `FarRole`, and has agents, see `Agent`.
@Sendable private func far(_ arguments: [String], _ parent: Connection) {
  // One handler for both: the second of two might be set when its message has come and gone.
  parent.onUnhandled = { event in
    switch event.name {
    case "agent": for port in event.ports { startThread { AgentServer(port).run() } }
    default: FarProcess.play(event)
    }
  }
}

/// Measures something in a process in which nothing else happens, see `LoneProcess`.
@Sendable private func lone(_ arguments: [String], _ parent: Connection) throws {
  try LoneProcess.play(arguments[0], parent)
}

/// Ends in the middle of traffic, see `ExitRole`.
@Sendable private func exits(_ arguments: [String], _ parent: Connection) throws {
  let code = Int32(arguments[1])!
  // The test kills nobody: what counts is how this process ends.
  parent.onClose = nil
  try ExitRole.play(ExitRole.Way(rawValue: arguments[0])!, code: code, parent)
  exit(code)
}
