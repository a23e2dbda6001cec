/// The connections of a listener that nobody has taken yet, and the tasks that wait for one. Not both at a time.
final class WelcomedClients: Sendable {
  enum Answer: Sendable {
    case connection(Connection)
    case finished
    case timedOut
    case cancelled
  }

  private struct State: Sendable {
    var connections: [Connection] = []
    var takers: [(id: UInt64, resumption: Resumption<Answer>)] = []
    var lastID: UInt64 = 0
    var isFinished = false
    /// Waits until there is room again.
    var roomWaiter: (@Sendable () -> Void)?
  }
  private let state = PerProcess(State()) { State(isFinished: true) }
  private let loop: EventLoop

  init(loop: EventLoop) { self.loop = loop }

  /// Each has a channel, so a program that does not take them must not have any number of them.
  static let most = 128

  /// Calls `body` at once, or when the next connection is taken, if there is room then for others.
  func whenThereIsRoom(_ body: @escaping @Sendable () -> Void) {
    let hasRoom = state.withLock { state in
      if state.connections.count < Self.most { return true }
      state.roomWaiter = body
      return false
    }
    if hasRoom { body() }
  }

  var hasRoom: Bool { state.withLock { $0.connections.count < Self.most } }

  func add(_ connection: Connection) {
    let taker = state.withLock { state -> Resumption<Answer>? in
      if !state.takers.isEmpty { return state.takers.removeFirst().resumption }
      state.connections.append(connection)
      return nil
    }
    taker?.resume(.connection(connection))
  }

  /// Those that wait here can still be taken.
  func finish() {
    let takers = state.withLock { state in
      state.isFinished = true
      defer { state.takers = [] }
      return state.takers
    }
    for taker in takers { taker.resumption.resume(.finished) }
  }

  func next(timeout: Duration?) async -> Answer {
    let id = state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
    let timer = timeout.map { timeout in
      loop.after(nanoseconds: UInt64(clamping: timeout.patience.nanoseconds)) { [weak self] in self?.end(id, .timedOut)
      }
    }
    defer { if let timer { loop.cancel(timer) } }
    return await withTaskCancellationHandler {
      await Resumption.suspend { resumption in
        if let answer = take(id, resumption) { return resumption.resume(answer) }
        // A task that was cancelled before it waited was not found by its handler.
        if Task.isCancelled { end(id, .cancelled) }
        if timeout.map({ $0 <= .zero }) ?? false { end(id, .timedOut) }
      }
    } onCancel: {
      end(id, .cancelled)
    }
  }

  private func take(_ id: UInt64, _ resumption: Resumption<Answer>) -> Answer? {
    var waiter: (@Sendable () -> Void)?
    let answer = state.withLock { state -> Answer? in
      if Task.isCancelled { return .cancelled }
      if !state.connections.isEmpty {
        waiter = state.roomWaiter.take()
        return .connection(state.connections.removeFirst())
      }
      if state.isFinished { return .finished }
      state.takers.append((id, resumption))
      return nil
    }
    waiter?()
    return answer
  }

  private func end(_ id: UInt64, _ answer: Answer) {
    let taker = state.withLock { state in
      state.takers.firstIndex { $0.id == id }.map { state.takers.remove(at: $0).resumption }
    }
    taker?.resume(answer)
  }
}

extension Duration {
  /// As long as anybody waits: a time near the end of the range cannot be added to a clock's.
  var patience: Duration { min(self, .seconds(3_155_760_000)) }
}
