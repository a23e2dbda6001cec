// Plays the other process of a test: `TestPeer ROLE [ARGUMENTS]`. One role per function, listed in `Roles*.swift`.

import Glibc
import MessagePorts

/// Runs on the main thread; what it sets up is served by the event loop afterwards, until the parent is gone.
typealias Role = @Sendable (_ arguments: [String], _ parent: Connection) throws -> Void

let roles = [portRoles, transferRoles, connectionRoles, attackRoles].reduce([:]) { $0.merging($1) { $1 } }

guard let name = CommandLine.arguments.dropFirst().first, let role = roles[name] else {
  print("TestPeer: no such role; there are \(roles.keys.sorted())")
  exit(64)
}
let parent = try Connection.parent
parent.onClose = { _ in exit(0) }
try role(Array(CommandLine.arguments.dropFirst(2)), parent)
// Not `dispatchMain()`: that takes a descriptor, and some roles have none left.
while true { pause() }
