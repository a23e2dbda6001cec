import CBench
import Foundation

/// The machine under the measurement: pinning, what it is, and the state it is in.
public enum Machine {
  public static var processors: Int { Int(cbench_processors()) }

  /// How many descriptors a process may have, raised as far as that goes.
  static let descriptorLimit = Int(cbench_raise_descriptor_limit(65_536))

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// Pins this thread, and all that it starts from now on; proves it.
  static func pin(_ processor: Int) throws {
    let result = cbench_pin(CInt(processor))
    guard result >= 0 else { throw Failure(description: "cannot pin to processor \(processor): error \(-result)") }
  }

  static func unpin() throws {
    guard cbench_unpin() >= 0 else { throw Failure(description: "cannot use all processors") }
  }

  /// Proves that no thread of this process may run anywhere else.
  static func checkThreads(on processor: Int) throws {
    for thread in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task") {
      guard let status = try? String(contentsOfFile: "/proc/self/task/\(thread)/status", encoding: .utf8) else {
        continue
      }
      let allowed = status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }?.split(separator: "\t")
        .last
      guard allowed.map(String.init) == String(processor) else {
        throw Failure(description: "thread \(thread) may run on \(allowed ?? "?"), not on \(processor) alone")
      }
    }
  }

  /// Microseconds since start-up in which some thread of the machine had to wait for a processor; 0 if the kernel does
  /// not say.
  static func waitedMicroseconds() -> UInt64 {
    guard let text = try? String(contentsOfFile: "/proc/pressure/cpu", encoding: .utf8),
      let total = text.split(whereSeparator: \.isWhitespace).first(where: { $0.hasPrefix("total=") })
    else { return 0 }
    return UInt64(total.dropFirst(6)) ?? 0
  }

  /// Facts that a reader of the figures needs, in order.
  public static func facts() -> [(name: String, value: String)] {
    func firstLine(_ path: String) -> String? {
      (try? String(contentsOfFile: path, encoding: .utf8))?.split(separator: "\n").first.map(String.init)
    }
    let model = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.split(separator: "\n")
      .first { $0.hasPrefix("model name") }?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) }
    let hypervisor = firstLine("/sys/hypervisor/type") ?? firstLine("/sys/class/dmi/id/sys_vendor")
    return [
      ("processor", model ?? "unknown"),
      ("processors", "\(processors)"),
      ("machine", hypervisor ?? "unknown"),
      ("kernel", firstLine("/proc/sys/kernel/osrelease") ?? "unknown"),
      ("clock source", firstLine("/sys/devices/system/clocksource/clocksource0/current_clocksource") ?? "unknown"),
      ("frequency governor", firstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") ?? "none visible"),
      ("idle driver", firstLine("/sys/devices/system/cpu/cpuidle/current_driver") ?? "none visible"),
      (
        "load before the run",
        firstLine("/proc/loadavg").map { $0.split(separator: " ").prefix(3).joined(separator: " ") } ?? "unknown"
      ),
      ("huge pages for shared memory", firstLine("/sys/kernel/mm/transparent_hugepage/shmem_enabled") ?? "unknown"),
    ]
  }
}
