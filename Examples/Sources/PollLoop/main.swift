// Ports in a loop of the program's own, which waits by poll(2) for whatever it waits for.

import ExampleWorker
import Glibc
import MessagePorts

/// Runs until all ports of `set` have come to their end. `other` stands for all else that the loop waits for.
func runLoop(_ set: PortSet, alongside other: CInt, _ handle: (MessageEvent) throws -> Void) throws {
  var entries = [try set.descriptor, other].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
  while set.count > 0 {
    guard unsafe poll(&entries, nfds_t(entries.count), -1) > 0 else { continue }
    if entries[1].revents != 0 {
      var byte: UInt8 = 0
      _ = unsafe read(other, &byte, 1)
    }
    // One message in each round, so that nothing else has to wait: the descriptor stays readable.
    guard entries[0].revents != 0, case .port(let port)? = try set.nextReady() else { continue }
    switch try port.tryReceive() {
    case .message(let event): try handle(event)
    case .closed: set.remove(port)
    case .empty: break
    }
  }
}

if ExampleWorker.isThisProcess {
  try ExampleWorker.run()
} else {
  let worker = try ExampleWorker.start(portCount: 3)
  var ends: [CInt] = [-1, -1]
  _ = unsafe pipe(&ends)
  var byte: UInt8 = 1
  _ = unsafe write(ends[1], &byte, 1)
  var sum = 0
  try runLoop(try PortSet(worker.ports), alongside: ends[0]) { event in sum += try event.load(as: Int.self) }
  precondition(sum == worker.expectedSum, "\(sum)")
  print("poll: \(worker.ports.count) ports, sum \(sum)")
}
