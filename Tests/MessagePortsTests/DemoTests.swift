import Foundation
import TestSupport
import Testing

/// Runs the tool that is built beside the tests.
@Suite("messageports demo", .serialized, .timeLimit(.minutes(2))) struct DemoTests {
  @Test("Two workers talk on while their host is stopped, and when it was killed") func twoWorkers() async throws {
    let result = try await Tool.run(["demo", "two-workers", "--plain"])
    #expect(
      result.output == """
        two-workers
          processes     driver, host, A, B
          verified      A wrote before B existed
          verified      B received that letter
          verified      A received B's answer to it
          verified      with the host stopped, they exchanged 100,000 messages
          verified      each came once, in order
          verified      neither saw its port close
          verified      the host was stopped all the time
          verified      the host was killed
          verified      with the host killed, they exchanged 100,000 messages
          verified      each came once, in order
          verified      neither saw its port close
          verified      every process has ended by itself
          messages      200000
        12 verified, 0 not verified, 0 different

        """)
    #expect(result.exitCode == 0)
  }

  @Test("Clients of a worker that dies lose nothing, and count as the standard tools do")
  func workerWithClients() async throws {
    let files = try SampleFiles()
    let result = try await Tool.run(["demo", "worker-with-clients", "--plain"] + files.paths)
    #expect(result.output == Self.workerWithClientsOutput(messages: 3 * files.paths.count))
    #expect(result.exitCode == 0)
  }

  @Test("One file is enough for the clients") func oneFile() async throws {
    let files = try SampleFiles()
    let result = try await Tool.run(["demo", "worker-with-clients", "--plain", files.paths[0]])
    #expect(result.output == Self.workerWithClientsOutput(messages: 9))
    #expect(result.exitCode == 0)
  }

  private static func workerWithClientsOutput(messages: Int) -> String {
    """
    worker-with-clients
      processes     driver, worker, client 1, client 2, client 3, client 2 again,
                    worker again
      verified      the worker was killed while it worked
      verified      each client got one answer for each file
      verified      the restarted client went on where the killed one had stopped
      verified      each client heard the worker's channel close, once
      verified      the first worker's answers were kept, and the second did the rest
      verified      line, word and byte counts are those of wc
      verified      digests are those of sha256sum
      verified      every process has ended by itself
      messages      \(messages)
    8 verified, 0 not verified, 0 different

    """
  }

  @Test("What differs is told, and the exit code says so") func difference() async throws {
    let files = try SampleFiles()
    let directory = try files.directory(withProgram: "sha256sum", "shift; for file; do echo 0000 name; done")
    let path = directory + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "")
    let arguments = ["demo", "worker-with-clients", "--plain"] + files.paths.dropFirst(2)
    let result = try await Tool.run(arguments, environment: ["PATH": path])
    #expect(result.output.contains("DIFFERS       digests are those of sha256sum\n                \(files.paths[2]): "))
    #expect(result.output.hasSuffix("7 verified, 0 not verified, 1 different\n"))
    #expect(result.exitCode == 1)
  }

  @Test("A file that cannot be read is refused before anything is started") func unreadableFile() async throws {
    let result = try await Tool.run(["demo", "worker-with-clients", "--plain", "/nonexistent"])
    #expect(result.output == "")
    #expect(result.exitCode == 64)
  }

  @Test(
    "A stream ends whatever becomes of its server, also among a thousand",
    .enabled(if: Tool.descriptorLimit >= 2_100, "a thousand channels take two thousand descriptors"))
  func replyStream() async throws {
    let result = try await Tool.run(["demo", "reply-stream", "--plain"])
    #expect(
      result.output == String(repeating: "got response data: 42\n", count: 10) + """
        stream ended
        reply-stream
          processes     driver, server, server that exits, server that is killed
          verified      a stream has as many elements as were asked for, and ends
          verified      its end is no error
          verified      a server's error comes after the last element
          verified      it is the error that the server has thrown
          verified      what a server has sent before it exits is delivered
          verified      and then, how it has exited
          verified      there are five when the server is killed after five
          verified      and then, what killed it
          verified      nobody handles what is not known
          verified      the server had 1,000 streams open at once
          verified      1,000 streams at once: each got its own elements, all of them, and its end
          verified      every process has ended by itself
          messages      20035
        12 verified, 0 not verified, 0 different

        """)
    #expect(result.exitCode == 0)
  }

  @Test(
    "A plug-in that can reach nothing answers on the port that it was handed",
    .enabled("neither bwrap nor unshare may make namespaces here") { await Tool.canConfine() })
  func confinedPlugin() async throws {
    let result = try await Tool.run(["demo", "confined-plugin", "--plain"])
    #expect(
      result.output == """
        confined-plugin
          processes     driver, worker, plug-in
          verified      the worker passed the port on unopened
          verified      the plug-in received what was posted before it existed
          verified      it answers the host without the worker, which was killed
          verified      the worker was killed
          verified      a process that is not confined opens the files and reaches the host's listener
          verified      the plug-in finds no file but its executable and libraries
          verified      it cannot reach the host's listener
          verified      it lives in namespaces of its own: ipc, mnt, net, pid, uts
          verified      every process has ended by itself
          messages      2
        9 verified, 0 not verified, 0 different

        """)
    #expect(result.exitCode == 0)
  }
}

/// Files in a directory of their own, removed with this object: empty, without a last line feed, not text, and with
/// names that a shell would take apart.
private final class SampleFiles {
  private let directory = FileManager.default.temporaryDirectory.appendingPathComponent("demo-\(UUID().uuidString)")
  let paths: [String]

  init() throws {
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    let contents: [(name: String, bytes: [UInt8])] = [
      ("a b", Array("two words\nand – a dash\n".utf8)),
      ("it's \"quoted\" $HOME \\", Array("no line feed".utf8)),
      ("-empty", []),
      ("white", Array(" \t\n\u{B}\u{C}\r\n x \n".utf8)),
      ("binary", (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 3) }),
      ("large", Array(String(repeating: "all work and no play\n", count: 50_000).utf8)),
    ]
    paths = contents.map { [directory] in directory.appendingPathComponent($0.name).path }
    for (path, content) in zip(paths, contents) { try Data(content.bytes).write(to: URL(fileURLWithPath: path)) }
  }

  deinit { try? FileManager.default.removeItem(at: directory) }

  /// A directory with a program of this name, which is the shell script.
  func directory(withProgram name: String, _ script: String) throws -> String {
    let programs = directory.appendingPathComponent("programs")
    try FileManager.default.createDirectory(at: programs, withIntermediateDirectories: true)
    let path = programs.appendingPathComponent(name).path
    try Data("#!/bin/sh\n\(script)\n".utf8).write(to: URL(fileURLWithPath: path))
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    return programs.path
  }
}

private enum Tool {
  static func run(_ arguments: [String], environment: [String: String] = [:]) async throws -> ProgramRun {
    let directory = URL(fileURLWithPath: PeerProcess.executable).deletingLastPathComponent()
    return try await run(directory.appendingPathComponent("messageports").path, arguments, environment)
  }

  /// How many descriptors the tool may have: it raises the limit itself as far as allowed.
  static var descriptorLimit: Int {
    var limit = rlimit()
    _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return Int(clamping: limit.rlim_max)
  }

  /// Whether one of the ways that the demo knows works here.
  static func canConfine() async -> Bool {
    let bubblewrap = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    let namespaces =
      ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"]
    for command in [bubblewrap, namespaces] {
      if let result = try? await run("/usr/bin/env", command, [:]), result.exitCode == 0 { return true }
    }
    return false
  }

  /// Runs a program to its end. It ends by itself: all waits of the demo have a limit.
  private static func run(
    _ path: String, _ arguments: [String], _ environment: [String: String]
  ) async throws -> ProgramRun {
    try await ProgramRun.run(path, arguments, environment: environment)
  }
}
