import Foundation

/// What the worker reads unless told otherwise: the sources of this package.
enum DefaultFiles {
  static func find() throws -> [String] {
    let current = FileManager.default.currentDirectoryPath
    // Sources/MessagePortsTool/Demo/DefaultFiles.swift, where it was when it was built.
    let built = (1...4).reduce(URL(fileURLWithPath: #filePath)) { url, _ in url.deletingLastPathComponent() }.path
    for package in [current, built] {
      let sources = package + "/Sources"
      guard FileManager.default.fileExists(atPath: sources + "/MessagePorts") else { continue }
      let names = try FileManager.default.subpathsOfDirectory(atPath: sources)
      return names.filter { $0.hasSuffix(".swift") }.sorted().map { sources + "/" + $0 }
    }
    throw Missing()
  }

  struct Missing: Error, CustomStringConvertible {
    var description: String { "the sources of this package are not here: name files to work on" }
  }
}
