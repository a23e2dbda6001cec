import MessagePorts
import TestSupport

let transferRoles: [String: Role] = [
  "agent": agent
]

/// Does what it is told on the port that comes; see `Agent`.
@Sendable private func agent(_ arguments: [String], _ parent: Connection) {
  parent.on("agent") { event in
    for port in event.ports { startThread { AgentServer(port).run() } }
  }
}
