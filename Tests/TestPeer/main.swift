// Plays the other process of a test: `TestPeer [confined] [trusting] ROLE [ARGUMENTS]`. One role per function, listed in
// `Roles*.swift`. A confined process has no file system and no network: see `ctest_leave_the_world`. A trusting one
// accepts memory that is not sealed.

import CTestSupport
import Glibc
import MessagePorts

/// Runs on the main thread; what it sets up is served by the event loop afterwards, until the parent is gone.
typealias Role = @Sendable (_ arguments: [String], _ parent: Connection) throws -> Void

let roles = [portRoles, connectionRoles].reduce([:]) { $0.merging($1) { $1 } }

var arguments = CommandLine.arguments.dropFirst()
if arguments.first == "confined" {
  arguments = arguments.dropFirst()
  // First of all: afterwards there are threads.
  let result = ctest_leave_the_world()
  guard result == 0 else {
    print("TestPeer: cannot be confined: \(result)")
    exit(71)
  }
}
let isTrusting = arguments.first == "trusting"
if isTrusting { arguments = arguments.dropFirst() }
guard let name = arguments.first, let role = roles[name] else {
  print("TestPeer: no such role; there are \(roles.keys.sorted())")
  exit(64)
}
let parent =
  try isTrusting ? Connection.parent(options: ChannelOptions(acceptsUnsealedMemory: true)) : Connection.parent
parent.onClose = { _ in exit(0) }
try role(Array(arguments.dropFirst()), parent)
// Not `dispatchMain()`: that takes a descriptor, and some roles have none left.
while true { pause() }
