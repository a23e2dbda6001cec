import Foundation

/// How a plug-in is kept from everything but its port.
enum Confinement: String, Codable, CaseIterable, CustomStringConvertible {
  /// bubblewrap: `bwrap`.
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

  /// What starts this executable in `role` under this confinement: a program and its arguments.
  ///
  /// The plug-in finds its own executable, the shared libraries that it is linked with, a `/proc` that shows nothing
  /// but itself, and otherwise an empty file system; no network, and none of the other processes. It may outlive
  /// whoever starts it: it ends when its port closes.
  func command(for role: DemoRole) async throws -> (program: String, arguments: [String]) {
    let program = [DemoExecutable.path] + role.commandLine
    switch self {
    case .bubblewrap:
      let files = try await Self.neededFiles().flatMap { ["--ro-bind", $0, $0] }
      let options = ["--unshare-all", "--new-session", "--cap-drop", "ALL", "--proc", "/proc"]
      return ("bwrap", options + files + ["--"] + program)
    case .namespaces:
      let files = try await Self.neededFiles()
      let options = ["--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork"]
      return (
        "unshare", options + ["sh", "-c", Self.script, "sh", "\(files.count)"] + files + program
      )
    case .none: return (program[0], Array(program.dropFirst()))
    }
  }

  /// Only what the loader and the library look at: none of the user's variables.
  static func environment() async throws -> [String: String] {
    let directories = Set(try await neededFiles().map { ($0 as NSString).deletingLastPathComponent }).sorted()
    let kept = ProcessInfo.processInfo.environment.filter { $0.key == "PATH" || $0.key.hasPrefix("MESSAGEPORTS_") }
    return kept.merging(["LD_LIBRARY_PATH": directories.joined(separator: ":")]) { $1 }
  }

  /// The executable, its interpreter, and the libraries, under the names by which the dynamic loader finds them.
  static func neededFiles() async throws -> [String] {
    // libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)
    let lines = try await StandardTools.lines(of: ["ldd", DemoExecutable.path])
    let words = lines.flatMap { $0.split { " \t".contains($0) } }
    let libraries = words.filter { $0.hasPrefix("/") }.map(String.init)
    return Set(libraries + [DemoExecutable.path]).sorted()
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
