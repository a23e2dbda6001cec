import CSupport
import Glibc
import MessagePorts

/// A process that ends while its ports are in use.
public enum ExitRole {
  public enum Way: String, Sendable, CaseIterable {
    /// A thread calls `exit` while others post.
    case exit
    /// The main thread returns from `main`, which is the same to the C library.
    case mainReturns
    /// A handler calls `exit`, on the event loop's own thread.
    case exitInHandler
  }

  /// What `TestPeer` does, on its main thread. `code` also decides after how many messages.
  public static func play(_ way: Way, code: Int32, _ parent: Connection) throws {
    let channel = try MessageChannel()
    let received = Collected<Void>()
    let enough = 50 + 200 * Int(code)
    channel.port1.onMessage = { _ in
      received.append(())
      if way == .exitInHandler, received.count == enough { Glibc.exit(code) }
    }
    for _ in 0..<100 { Kept.keep(try MessageChannel().port1) }
    try parent.postMessage("port", transfer: [channel.port2])
    _ = TestThread {
      var number = 0
      while true {
        try channel.port1.postMessage(bitwise: number)
        number += 1
        if number - received.count > 5000 { usleep(100) }
      }
    }
    let local = try MessageChannel()
    for port in [local.port1, local.port2] {
      port.onMessage = { [unowned port] event in try? port.postMessage(bytes: event.bytes) }
    }
    try local.port1.postMessage(bitwise: 1)
    try received.wait(for: way == .exitInHandler ? Int.max : enough)
    // Both leave `main` in the end; that is up to the caller.
    if way == .exit {
      _ = TestThread { Glibc.exit(code) }
      while true { pause() }
    }
  }
}

/// The calling thread's number.
public func threadID() -> UInt64 { csupport_thread_id() }
