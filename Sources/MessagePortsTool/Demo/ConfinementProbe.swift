import Foundation
import MessagePorts

/// What a process tries in order to find out how confined it is.
struct ConfinementProbe: Codable, Sendable {
  let files: [String]
  let listenerPath: String

  struct Findings: Codable, Sendable {
    /// Those of the files that it could open.
    let openedFiles: [String]
    /// Files that it has come upon, besides its executable and what that has loaded; the first few.
    let foreignFiles: [String]
    /// “connected”, or why not.
    let listener: String
    /// Which of each kind it is in.
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
    let namespaces = Self.namespaces.map { ($0, try? manager.destinationOfSymbolicLink(atPath: "/proc/self/ns/\($0)")) }
    return Findings(
      openedFiles: opened, foreignFiles: foreignFiles(), listener: await connect(),
      namespaces: Dictionary(uniqueKeysWithValues: namespaces.map { ($0, $1 ?? "unknown") }))
  }

  private func connect() async -> String {
    do throws(ConnectionError) {
      try await Connection.connect(path: listenerPath, timeout: .milliseconds(100)).close()
      return "connected"
    } catch {
      return "\(error)"
    }
  }

  /// Walks through the file system until it has found some.
  private func foreignFiles() -> [String] {
    // Lines end with the path of what is mapped, if it is a file.
    let maps = (try? String(contentsOfFile: "/proc/self/maps", encoding: .utf8)) ?? ""
    let loaded = Set(maps.split(separator: "\n").compactMap { $0.firstIndex(of: "/").map($0.suffix(from:)) }.map(String.init))
    let loadedNames = loaded.map { URL(fileURLWithPath: $0).lastPathComponent }
    guard let paths = FileManager.default.enumerator(atPath: "/") else { return [] }
    var found: [String] = []
    for case let path as String in paths {
      if path == "proc" {
        paths.skipDescendants()
        continue
      }
      if paths.fileAttributes?[.type] as? FileAttributeType == .typeDirectory { continue }
      let name = URL(fileURLWithPath: "/" + path).lastPathComponent
      if loadedNames.contains(where: { $0 == name || $0.hasPrefix(name + ".") }) { continue }
      found.append("/" + path)
      if found.count == 5 { break }
    }
    return found
  }
}
