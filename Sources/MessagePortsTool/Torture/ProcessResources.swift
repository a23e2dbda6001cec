import Foundation

/// What a process holds of what a system can run out of.
struct ProcessResources: Equatable, CustomStringConvertible {
  var descriptors = 0
  /// Of shared memory: others come and go as the heap likes.
  var mappings = 0
  var threads = 0

  static func now() -> ProcessResources {
    ProcessResources(
      descriptors: count("/proc/self/fd"),
      mappings: (KernelFiles.real.text("/proc/self/maps") ?? "").split(separator: "\n").count {
        $0.contains("/memfd:") || $0.contains("/dev/shm/")
      },
      threads: count("/proc/self/task"))
  }

  private static func count(_ directory: String) -> Int {
    (try? FileManager.default.contentsOfDirectory(atPath: directory).count) ?? -1
  }

  var description: String { "\(descriptors) descriptors, \(mappings) mappings, \(threads) threads" }
}
