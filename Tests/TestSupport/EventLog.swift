import Foundation
import Synchronization

/// How long a test waits for what has to happen soon: far longer than it takes, also on a machine that does a lot else.
public let patience = Duration.seconds(60)

/// What handlers have been told, in order, for a test that waits for it on its own thread.
public final class EventLog<Element: Sendable>: Sendable {
  private let elements = Mutex<[Element]>([])
  private let changed = NSCondition()

  public init() {}

  public func append(_ element: Element) {
    elements.withLock { $0.append(element) }
    changed.lock()
    changed.broadcast()
    changed.unlock()
  }

  public var all: [Element] { elements.withLock { $0 } }
  public var count: Int { elements.withLock { $0.count } }

  /// Waits until there are at least so many; returns all there are then. Blocks the thread.
  @discardableResult
  public func wait(for count: Int, within limit: Duration = patience, _ what: String = "events") throws -> [Element] {
    try wait(within: limit, "\(count) \(what), of which \(self.count) came") { $0.count >= count }
  }

  /// Waits until `isEnough` says so of all there are. Blocks the thread.
  @discardableResult
  public func wait(
    within limit: Duration = patience, _ what: @autoclosure () -> String, until isEnough: ([Element]) -> Bool
  ) throws -> [Element] {
    let deadline = Date(timeIntervalSinceNow: limit.inSeconds)
    changed.lock()
    defer { changed.unlock() }
    while !elements.withLock({ isEnough($0) }) {
      guard changed.wait(until: deadline) else { throw DeadlineExceeded(what: what()) }
    }
    return all
  }
}

/// Something that happens once, and what it came with.
public final class Promise<Value: Sendable>: Sendable {
  private let log = EventLog<Value>()

  public init() {}
  public func fulfil(_ value: Value) { log.append(value) }
  public var value: Value? { log.all.first }
  public func wait(within limit: Duration = patience, _ what: String = "value") throws -> Value {
    try log.wait(for: 1, within: limit, what)[0]
  }
}

extension Promise where Value == Void {
  public func fulfil() { fulfil(()) }
}

/// Tells threads of a test that it is over, however it has ended.
public final class Flag: Sendable {
  private let value = Mutex(false)

  public init() {}
  public var isSet: Bool { value.withLock { $0 } }
  public func set() { value.withLock { $0 = true } }
}

extension Duration {
  public var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}

/// Polls until `condition` holds, on the calling thread. For what nothing can be told of.
public func waitUntil(
  _ what: String, within limit: Duration = patience, _ condition: () throws -> Bool
) throws {
  let deadline = ContinuousClock.now + limit
  while try !condition() {
    guard ContinuousClock.now < deadline else { throw DeadlineExceeded(what: what) }
    usleep(1000)
  }
}
