import MessagePorts

let portRoles: [String: Role] = [
  "echo": echo
]

/// Sends everything that comes on a port back on the same port, ports included.
@Sendable private func echo(_ arguments: [String], _ parent: Connection) {
  parent.on("port") { event in
    for port in event.ports {
      port.onMessage = { [weak port] message in try? port?.postMessage(bytes: message.bytes, transfer: message.ports) }
    }
  }
}
