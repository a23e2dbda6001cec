import Glibc
import SharedRing

/// What the environment says about how to work; read once.
enum Environment {
  /// `MESSAGEPORTS_BACKING`: where channels' memory comes from unless their options say so.
  static let backing: MemoryBacking = {
    guard let name = value("MESSAGEPORTS_BACKING") else { return .memfd }
    guard let backing = MemoryBacking(rawValue: name) else {
      Log.logger.warning("MESSAGEPORTS_BACKING=\(name) is neither memfd nor posixSharedMemory; using memfd")
      return .memfd
    }
    return backing
  }()

  /// `MESSAGEPORTS_DRIVER`: what event loops sleep on; `nil`: what the probe finds best.
  static let driver: EventLoop.Driver? = {
    guard let name = value("MESSAGEPORTS_DRIVER") else { return nil }
    guard let driver = EventLoop.Driver(rawValue: name) else {
      Log.logger.warning("MESSAGEPORTS_DRIVER=\(name) is neither uring nor epoll; probing")
      return nil
    }
    return driver
  }()

  static func value(_ name: String) -> String? {
    guard let text = unsafe getenv(name) else { return nil }
    return unsafe String(cString: text)
  }
}
