import Dispatch
import Glibc

/// A program that was run to its end: what it printed on standard output, and its exit code.
///
/// With `popen`: Foundation's `Process` sometimes waits for ever in a process that runs exit tests, since both want to
/// hear of every child.
public struct ProgramRun: Sendable {
  public let output: String
  public let exitCode: CInt

  /// Runs a program that ends by itself. Waits on a thread of Dispatch's, not of the cooperative pool.
  public static func run(
    _ path: String, _ arguments: [String] = [], environment: [String: String] = [:]
  ) async throws -> ProgramRun {
    let assignments = environment.sorted { $0.key < $1.key }.map { "\($0.key)=\(quoted($0.value))" }
    let command = (["exec", "env"] + assignments + ([path] + arguments).map(quoted)).joined(separator: " ")
    return try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async { continuation.resume(with: Result { try run(shell: command) }) }
    }
  }

  private static func run(shell command: String) throws -> ProgramRun {
    guard let pipe = unsafe popen(command, "re") else { throw DeadlineExceeded(what: "cannot start \(command)") }
    var bytes: [UInt8] = []
    while case let byte = unsafe getc(pipe), byte >= 0 { bytes.append(UInt8(byte)) }
    let status = unsafe pclose(pipe)
    // As a shell reports it: the exit code, or 128 and the signal.
    return ProgramRun(
      output: String(decoding: bytes, as: UTF8.self), exitCode: status & 0x7f == 0 ? status >> 8 : 128 + (status & 0x7f)
    )
  }

  private static func quoted(_ word: String) -> String { "'" + word.replacing("'", with: #"'\''"#) + "'" }
}
