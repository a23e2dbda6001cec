import Foundation

/// The executable that is running, which is also that of all other processes.
enum DemoExecutable {
  static let path: String = {
    let link = "/proc/self/exe"
    return (try? FileManager.default.destinationOfSymbolicLink(atPath: link)) ?? link
  }()
}
