import Dispatch
import Glibc
import MessagePorts

let parent = try Connection.parent
switch CommandLine.arguments.dropFirst().first {
case "echo":
  parent.on("port") { event in
    for port in event.ports {
      port.onMessage = { [weak port] e in try? port?.postMessage(bytes: e.bytes, transfer: e.ports) }
    }
  }
default:
  exit(2)
}
parent.onClose = { _ in exit(0) }
dispatchMain()
