import Foundation

/// What the system's own programs say about files, to check the worker's answers against.
enum StandardTools {
  /// The summaries of the files, by `wc` and `sha256sum`.
  static func summaries(ofFiles paths: [String]) async throws -> [FileSummary] {
    // Which bytes make a word differs between versions of wc, except for letters and white space: so anything that is
    // neither becomes a letter first.
    let count = "for file; do tr '\\000-\\010\\016-\\037\\177-\\377' x <\"$file\" | wc; done"
    let counts = try await lines(of: ["sh", "-c", count, "sh"] + paths)
    let digests = try await lines(of: ["sha256sum", "--"] + paths)
    guard counts.count == paths.count, digests.count == paths.count else {
      throw Failure(program: "wc or sha256sum", problem: "answered for \(counts.count) and \(digests.count) files")
    }
    return try zip(counts, digests).map { count, digest in
      let numbers = count.split(separator: " ").compactMap { Int($0) }
      guard numbers.count == 3 else { throw Failure(program: "wc", problem: "said “\(count)”") }
      // A leading backslash says that the name is escaped.
      let digits = digest.drop { $0 == "\\" }.prefix { $0 != " " }
      return FileSummary(lines: numbers[0], words: numbers[1], bytes: numbers[2], digest: String(digits))
    }
  }

  struct Failure: Error, CustomStringConvertible {
    let program: String
    let problem: String
    var description: String { "\(program) \(problem)" }
  }

  /// Runs a program and returns the lines that it writes.
  static func lines(of command: [String]) async throws -> [Substring] {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = command
    process.environment = ProcessInfo.processInfo.environment.merging(["LC_ALL": "C"]) { $1 }
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    defer { if process.isRunning { process.terminate() } }
    let data = try await within(.seconds(60), "the output of \(command[0])") {
      try await content(of: output.fileHandleForReading)
    }
    return String(decoding: data, as: UTF8.self).split(separator: "\n")
  }

  /// Reads to the end on a thread that may block. (A `readabilityHandler` would be simpler, but is sometimes not
  /// called.)
  private static func content(of file: FileHandle) async throws -> Data {
    let (chunks, continuation) = AsyncThrowingStream.makeStream(of: Data.self)
    DispatchQueue.global().async {
      do {
        if let data = try file.readToEnd() { continuation.yield(data) }
        continuation.finish()
      } catch {
        continuation.finish(throwing: error)
      }
    }
    return try await chunks.reduce(into: Data()) { $0.append($1) }
  }
}
