import CSupport
import Glibc
import SharedRing
import Synchronization

/// Choices that the environment makes; read once.
enum Environment {
  /// `MESSAGEPORTS_BACKING`: where channels' memory comes from unless their options say so.
  static var backing: MemoryBacking { chosenBacking.value ?? .memfd }
  private static let chosenBacking = EnvironmentChoice<MemoryBacking>(
    "MESSAGEPORTS_BACKING", problem: "is neither memfd nor posixSharedMemory; using memfd")

  /// `MESSAGEPORTS_DRIVER`: what event loops sleep on; `nil`: whatever the probe finds best.
  static var driver: EventLoop.Driver? { chosenDriver.value }
  private static let chosenDriver = EnvironmentChoice<EventLoop.Driver>(
    "MESSAGEPORTS_DRIVER", problem: "is neither uring nor epoll; probing")

  /// A variable's value as text, repaired where it is not UTF-8.
  static func value(_ name: String) -> String? { bytes(name).map { String(decoding: $0, as: UTF8.self) } }

  /// A variable's value, byte for byte.
  static func bytes(_ name: String) -> [UInt8]? { unsafe getenv(name).map { unsafe copy($0) } }

  /// Everything that a new process inherits, byte for byte: usually `NAME=value`.
  static var entries: [[UInt8]] {
    var entries: [[UInt8]] = []
    guard var next = unsafe csupport_environment() else { return [] }
    while let entry = unsafe next.pointee {
      unsafe entries.append(copy(entry))
      unsafe next += 1
    }
    return entries
  }

  private static func copy(_ text: UnsafePointer<CChar>) -> [UInt8] {
    unsafe Array(UnsafeRawBufferPointer(start: text, count: strlen(text)))
  }
}

/// What a variable of the environment chooses; read once.
private final class EnvironmentChoice<Value: RawRepresentable<String> & Sendable>: Sendable {
  private let chosen: Value?
  /// What is wrong with the variable, if it is.
  private let problem: String?
  private let isTold = Atomic<Bool>(false)

  init(_ name: String, problem: String) {
    let text = Environment.value(name)
    chosen = text.flatMap { Value(rawValue: $0) }
    self.problem = text != nil && chosen == nil ? "\(name)=\(text ?? "") \(problem)" : nil
  }

  /// The choice, if there is a valid one. What is wrong is told the first time, and not before this exists: the program's
  /// handler for logs may use ports itself. Relaxed: it only has to be told once.
  var value: Value? {
    if let problem, !isTold.exchange(true, ordering: .relaxed) { Log.logger.warning("\(problem)") }
    return chosen
  }
}
