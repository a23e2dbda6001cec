import Glibc
import MessagePorts

/// The other process of a test: the program `TestPeer` next to the test bundle, playing one role.
public enum PeerProcess {
  /// Where SwiftPM has put `TestPeer`: beside the running test bundle.
  public static let executable: String = {
    let directory = CommandLine.arguments[0].split(separator: "/", omittingEmptySubsequences: false).dropLast()
    return directory.joined(separator: "/") + "/TestPeer"
  }()

  /// Starts `TestPeer` in `role`; its end of the connection is `Connection.parent`.
  public static func spawn(
    _ role: String, _ arguments: [String] = [], options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default
  ) throws -> WorkerProcess {
    try WorkerProcess.spawn(executable, arguments: [role] + arguments, options: options, loop: loop)
  }
}
