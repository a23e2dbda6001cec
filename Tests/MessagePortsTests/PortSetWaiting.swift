import Glibc
import TestSupport

@testable import MessagePorts

/// The ways to wait for a set.
enum WayToWait: String, CaseIterable, Sendable { case blocking, task, descriptor }

/// What the suites about sets have in common.
protocol PortSetWaiting: Sendable {}

extension PortSetWaiting {
  /// What comes first.
  func first(_ set: PortSet, _ wait: WayToWait) async throws -> MessagePort {
    let member: PortSet.Member
    switch wait {
    case .blocking: member = try await onThread { try patiently("something") { try set.firstReady(timeout: $0) } }
    case .task: member = try await soon("something") { try await set.firstReady() }
    case .descriptor:
      let descriptor = try set.descriptor
      member = try await onThread {
        try patiently("something") { limit in
          let end = ContinuousClock.now + limit
          while ContinuousClock.now < end {
            try waitUntilReadable(descriptor, limit)
            if let member = try set.nextReady() { return member }
          }
          throw DeadlineExceeded(what: "something")
        }
      }
    }
    guard case .port(let port) = member else { throw DeadlineExceeded(what: "a port") }
    return port
  }

  func waitUntilReadable(_ descriptor: CInt, _ limit: Duration) throws {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard unsafe poll(&entry, 1, CInt(limit.inSeconds * 1000)) == 1 else { throw DeadlineExceeded(what: "readable") }
  }

  func isReadable(_ set: PortSet) throws -> Bool {
    var entry = pollfd(fd: try set.descriptor, events: Int16(POLLIN), revents: 0)
    return unsafe poll(&entry, 1, 0) == 1
  }

  /// A wait of a task's, which fails if it takes too long.
  func soon<Result: Sendable>(
    _ what: String, _ body: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    let waiting = Task { try await body() }
    let ended = Flag()
    let guardian = Task {
      try await Task.sleep(for: patience)
      ended.set()
      waiting.cancel()
    }
    defer { guardian.cancel() }
    let result = await waiting.result
    if ended.isSet { throw DeadlineExceeded(what: what) }
    return try result.get()
  }

  func port(_ member: PortSet.Member?) -> MessagePort? {
    if case .port(let port) = member { port } else { nil }
  }
}
