import Foundation
import MessagePorts

/// How a plug-in is kept from everything but its port.
enum PluginCage: String, Codable, CaseIterable, CustomStringConvertible {
  /// The library's own way, by bubblewrap.
  case bubblewrap
  /// Namespaces made by util-linux: `unshare`, `mount`, `pivot_root`.
  case namespaces
  /// Not at all, where the system allows neither.
  case none

  var description: String {
    switch self {
    case .bubblewrap: "confined by bubblewrap"
    case .namespaces: "confined by unshare"
    case .none: "not confined"
    }
  }

  /// The executable, its interpreter, and the libraries, under the names by which the dynamic loader finds them.
  static let files = Confinement.filesOfThisProgram

  /// Starts this executable in `role` in such a cage.
  ///
  /// The plug-in finds its own executable, the shared libraries that it is linked with, a `/proc` that shows nothing
  /// but itself, and otherwise an empty file system; no network, and none of the other processes. It may outlive
  /// whoever starts it: it ends when its port closes.
  func start(_ role: DemoRole) throws -> WorkerProcess {
    let program = [DemoExecutable.path] + role.commandLine
    var command = program
    var process = WorkerOptions()
    switch self {
    case .bubblewrap:
      process.confinement = Confinement(readablePaths: Self.files)
      process.session = .newSession
    case .namespaces:
      let options = ["--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork"]
      command = ["unshare"] + options + ["sh", "-c", Self.script, "sh", "\(Self.files.count)"] + Self.files + program
    case .none: break
    }
    return try WorkerProcess.spawn(
      command[0], arguments: Array(command.dropFirst()), environment: Self.environment, process: process)
  }

  /// Only what the loader and the library look at: none of the user's variables.
  private static var environment: [String: String] {
    let directories = Set(files.map { ($0 as NSString).deletingLastPathComponent }).sorted()
    let kept = ProcessInfo.processInfo.environment.filter { $0.key == "PATH" || $0.key.hasPrefix("MESSAGEPORTS_") }
    return kept.merging(["LD_LIBRARY_PATH": directories.joined(separator: ":")]) { $1 }
  }

  /// Arguments: the number of files, the files, the program and its arguments. A new root is made of an empty file
  /// system with the files in it; the old one is taken away by its own `umount`, the last thing it is used for.
  private static let script = """
    set -e
    mount -t tmpfs -o mode=755 tmpfs /sys
    cd /sys
    mkdir old proc
    count=$1; shift
    while [ "$count" -gt 0 ]; do
      mkdir -p ".${1%/*}"; : >".$1"; mount --bind "$1" ".$1"; mount -o remount,bind,ro ".$1"
      shift; count=$((count - 1))
    done
    mount -t proc proc proc
    pivot_root . old
    cd /
    libraries=$LD_LIBRARY_PATH
    export LD_LIBRARY_PATH=/old/lib/x86_64-linux-gnu:/old/lib/aarch64-linux-gnu:/old/usr/lib64:/old/usr/lib:/old/lib
    if [ -x /old/usr/bin/umount ]; then /old/usr/bin/umount -l /old; else /old/bin/umount -l /old; fi
    export LD_LIBRARY_PATH=$libraries
    exec "$@"
    """
}
