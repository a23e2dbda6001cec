@testable import MessagePorts
import TestSupport

/// A connection whose other end answers as a ``RequestService`` does.
func service(_ place: Place, options: ChannelOptions = ChannelOptions()) throws -> Connection {
  Connection(over: try place.open(.serve, options: options))
}

/// How a request has ended, if with an error of a port's.
func outcome<Result>(_ body: () async throws -> Result) async -> PortError.Code? {
  do {
    _ = try await body()
    return nil
  } catch { return (error as? PortError)?.code }
}

/// Lets so many pass.
final class Gate: Sendable {
  private let state = Lock<(free: Int, waiters: [CheckedContinuation<Void, Never>])>((0, []))

  func pass() async {
    await withCheckedContinuation { continuation in
      let passes = state.withLock { state in
        if state.free > 0 {
          state.free -= 1
          return true
        }
        state.waiters.append(continuation)
        return false
      }
      if passes { continuation.resume() }
    }
  }

  func open(_ count: Int) {
    let passing = state.withLock { state in
      let passing = state.waiters.prefix(count)
      state.waiters.removeFirst(passing.count)
      state.free += count - passing.count
      return Array(passing)
    }
    for continuation in passing { continuation.resume() }
  }
}
