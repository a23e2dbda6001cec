import Foundation
import Synchronization

/// What handlers were called with, in the order of the calls. Any thread may use it.
public final class Collected<Element: Sendable>: Sendable {
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

  /// Forgets everything, which would otherwise live on in here.
  public func removeAll() {
    let old = elements.withLock { elements in
      defer { elements = [] }
      return elements
    }
    _ = old
  }

  /// Waits until there are at least `count`; returns all there are then.
  @discardableResult
  public func wait(
    for count: Int, within limit: Duration = patience, _ what: String = "elements of \(Element.self)"
  ) async throws -> [Element] {
    try await eventually("\(count) \(what), of which \(self.count) came", within: limit) { self.count >= count }
    return all
  }

  /// The same on the calling thread, which it blocks.
  @discardableResult
  public func wait(
    for count: Int, within limit: Duration = patience, _ what: String = "elements of \(Element.self)"
  ) throws -> [Element] {
    try wait(within: limit, "\(count) \(what), of which \(self.count) came") { $0.count >= count }
  }

  /// Waits until `isEnough` says so of all there are. Blocks the thread.
  @discardableResult
  public func wait(
    within limit: Duration = patience, _ what: @autoclosure () -> String, until isEnough: ([Element]) -> Bool
  ) throws -> [Element] {
    try patiently(what(), within: limit) { limit in
      let deadline = Date(timeIntervalSinceNow: limit.inSeconds)
      changed.lock()
      defer { changed.unlock() }
      while !elements.withLock({ isEnough($0) }) {
        guard changed.wait(until: deadline) else { break }
      }
    }
    return all
  }
}

/// Something that happens once, and what it came with.
public final class Promise<Value: Sendable>: Sendable {
  private let values = Collected<Value>()

  public init() {}
  public func fulfil(_ value: Value) { values.append(value) }
  public var value: Value? { values.all.first }
  public func wait(within limit: Duration = patience, _ what: String = "value") throws -> Value {
    try values.wait(for: 1, within: limit, what)[0]
  }
}

extension Promise where Value == Void {
  public func fulfil() { fulfil(()) }
}
