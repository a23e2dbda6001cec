import Glibc
import TestSupport

/// How long some threads have been ready and had no processor, as the kernel counts it.
///
/// Whoever keeps all processors busy makes everybody wait who has more to do than a thread that only echoes. That is not what
/// the library can be asked about: what remains of a slow answer without it is.
struct ProcessorWaits: Sendable {
  private let files: [String]

  /// Those of this thread, and of the loops of this process and of another one.
  init(of process: Int32) {
    files =
      ["/proc/thread-self/schedstat"]
      + [getpid(), process].flatMap { process in
        entries(of: "/proc/\(process)/task").filter { task in
          text(of: "/proc/\(process)/task/\(task)/comm") == "messageports\n"
        }.map { "/proc/\(process)/task/\($0)/schedstat" }
      }
  }

  /// So far.
  var sum: Duration {
    .nanoseconds(
      files.map { file in
        // Time on a processor, time without one, how often.
        Int64(text(of: file).split(separator: " ").dropFirst().first ?? "") ?? 0
      }.reduce(0, +))
  }
}
