// Ports on an event loop of SwiftNIO.

import ExampleWorker
import Glibc
import MessagePorts
import NIOCore
import NIOPosix

/// Lets `group` have the messages of a set's ports, until all have come to their end.
func serve(
  _ set: PortSet, on group: any EventLoopGroup, _ handle: @escaping @Sendable (MessageEvent) -> Void
) async throws {
  // NIO closes what it is given.
  let descriptor = fcntl(try set.descriptor, F_DUPFD_CLOEXEC, 3)
  let channel = try await NIOPipeBootstrap(group: group)
    .channelInitializer { channel in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(PortSetHandler(set, handle))
      }
    }
    .takingOwnershipOfDescriptor(input: descriptor)
    .get()
  try await channel.closeFuture.get()
}

if ExampleWorker.isThisProcess {
  try ExampleWorker.run()
} else {
  let worker = try ExampleWorker.start(portCount: 3)
  let group = MultiThreadedEventLoopGroup.singleton
  let (numbers, adding) = AsyncStream.makeStream(of: Int.self)
  try await serve(try PortSet(worker.ports), on: group) { event in
    if let number = try? event.load(as: Int.self) { adding.yield(number) }
  }
  adding.finish()
  var sum = 0
  for await number in numbers { sum += number }
  precondition(sum == worker.expectedSum, "\(sum)")
  print("NIO: \(worker.ports.count) ports, sum \(sum)")
}
