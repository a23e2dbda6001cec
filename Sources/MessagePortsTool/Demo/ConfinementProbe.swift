import Foundation
import MessagePorts

/// What a process tries, to find out how confined it is.
struct ConfinementProbe: Codable, Sendable {
  let files: [String]
  let listenerPath: String

  struct Findings: Codable, Sendable {
    /// Those of the files that it could open.
    let openedFiles: [String]
    /// The files in the whole file system except `/proc`; only the first ones, if there are many.
    let visibleFiles: [String]
    /// “connected”, or why not.
    let listener: String
    /// Its namespace of each kind, as far as it can tell.
    let namespaces: [String: String]
  }

  /// The kinds that every way of confining has to separate.
  static let namespaces = ["ipc", "mnt", "net", "pid", "uts"]

  func carryOut() async -> Findings {
    let manager = FileManager.default
    let opened = files.filter { path in
      guard let handle = FileHandle(forReadingAtPath: path) else { return false }
      try? handle.close()
      return true
    }
    var namespaces: [String: String] = [:]
    for kind in Self.namespaces {
      namespaces[kind] = try? manager.destinationOfSymbolicLink(atPath: "/proc/self/ns/\(kind)")
    }
    return Findings(
      openedFiles: opened, visibleFiles: visibleFiles(), listener: await connect(),
      namespaces: namespaces)
  }

  private func connect() async -> String {
    do throws(ConnectionError) {
      try await Connection.connect(path: listenerPath, timeout: .seconds(1)).close()
      return "connected"
    } catch {
      return "\(error)"
    }
  }

  /// Walks through the file system until it has found more than an executable needs.
  private func visibleFiles() -> [String] {
    let many = 200
    guard let paths = FileManager.default.enumerator(atPath: "/") else { return [] }
    var found: [String] = []
    while found.count < many, let path = paths.nextObject() as? String {
      let path = "/" + path.drop { $0 == "/" }
      if path == "/proc" {
        paths.skipDescendants()
      } else if paths.fileAttributes?[.type] as? FileAttributeType != .typeDirectory {
        found.append(path)
      }
    }
    return found.sorted()
  }
}
