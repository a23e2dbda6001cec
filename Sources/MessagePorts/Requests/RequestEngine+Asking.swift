import CSupport
import SharedRing

extension RequestEngine {
  /// Asks, and waits for the outcome.
  nonisolated(nonsending) func ask(
    _ name: String, _ bytes: [UInt8], _ cargo: MessageCargo?, timeout: Duration?, over connection: Connection
  ) async throws -> MessageEvent {
    let number = nextNumber()
    guard let envelope = unsafe NamedEnvelope.make(.request, number, name: name, bytes.span.bytes) else {
      throw PortError.invalidOption(
        "a request's name has at most \(Connection.maximumNameBytes) bytes, not \(name.utf8.count)")
    }
    return try await ask(number, envelope, cargo, timeout: timeout, over: connection)
  }

  nonisolated(nonsending) private func ask(
    _ number: UInt64, _ envelope: [UInt8], _ cargo: MessageCargo?, timeout: Duration?, over connection: Connection
  ) async throws -> MessageEvent {
    connection.startForAnswers()
    let clock = RequestClock(timeout)
    let timer = clock.flatMap { clock in
      connection.eventLoop.timer(nanoseconds: clock.nanoseconds) { [weak connection] in
        if let connection { self.giveUp(number, .timedOut, over: connection) }
      }
    }
    defer { timer?.cancel() }
    while true {
      let word = await withTaskCancellationHandler {
        await Resumption<RequestTable.Word>.suspend { waiter in
          begin(number, envelope, cargo, waiter, clock, over: connection)
        }
      } onCancel: {
        giveUp(number, .cancelled, over: connection)
      }
      switch word {
      case .reply(let event): return event
      case .failed(let error): throw error
      case .mayBegin: break
      case .lacksTransferRoom: try await connection.port.wait(until: clock) { try await $0.waitForTransferSpace() }
      case .lacksSpace:
        try await connection.port.wait(until: clock) { try await $0.waitForSpace(byteCount: envelope.count) }
      }
    }
  }

  /// Posts the request if it may be posted now; sees to it that the waiter is resumed, now or later.
  private func begin(
    _ number: UInt64, _ envelope: [UInt8], _ cargo: MessageCargo?, _ waiter: RequestTable.Waiter,
    _ clock: RequestClock?,
    over connection: Connection
  ) {
    let (beginning, others) = state.withLock { state in
      // Whoever gives up now, or did so before there was an entry, is seen here.
      let problem: PortError? = Task.isCancelled ? .cancelled : clock?.isOver == true ? .timedOut : nil
      return state.asked.begin(number, envelope.count, waiter, problem: problem)
    }
    letBegin(others)
    switch beginning {
    case .wait: return
    case .failed(let error): return waiter.resume(.failed(error))
    case .post: break
    }
    do throws(PortError) {
      try connection.port.postMessage(bytes: envelope, with: cargo)
    } catch {
      let (own, others) = state.withLock { $0.asked.refused(number) }
      letBegin(others)
      switch error {
      case .queueFull: own?.resume(.lacksSpace)
      case .transferQueueFull: own?.resume(.lacksTransferRoom)
      default: own?.resume(.failed(error))
      }
      return
    }
    crashPoint(.requestPosted)
    if state.withLock({ $0.asked.posted(number) }) { sayCancelled(number, over: connection) }
  }

  /// The asker does not wait any longer.
  private func giveUp(_ number: UInt64, _ reason: PortError, over connection: Connection) {
    let (own, tellsOther) = state.withLock { $0.asked.giveUp(number) }
    if tellsOther { sayCancelled(number, over: connection) }
    own?.resume(.failed(reason))
  }

  private func sayCancelled(_ number: UInt64, over connection: Connection) {
    guard let envelope = NamedEnvelope.make(.cancel, number, RawSpan()) else { return }
    do throws(PortError) {
      try connection.port.postMessage(bytes: envelope)
    } catch {
      // Otherwise nobody is there to tell.
      if case .queueFull = error { Task { try? await connection.port.postPatiently(envelope) } }
    }
  }

  /// The outcome of a request has come.
  func answer(_ number: UInt64, _ word: RequestTable.Word, over connection: Connection) {
    let outcome = state.withLock { state -> (RequestTable.Waiter?, [RequestTable.Waiter])? in
      // After the end, what still comes belongs to nobody, and that is nobody's fault.
      state.asked.ended == nil ? state.asked.answer(number).map { ($0.own, $0.others) } : (nil, [])
    }
    guard let (own, others) = outcome else {
      return complain("an answer to a request that was not made", over: connection)
    }
    crashPoint(.replyTaken)
    own?.resume(word)
    letBegin(others)
  }

  private func letBegin(_ waiters: [RequestTable.Waiter]) {
    for waiter in waiters { waiter.resume(.mayBegin) }
  }
}

/// When a request's time is up.
struct RequestClock: Sendable {
  let nanoseconds: UInt64
  private let deadline: UInt64

  /// `nil`: never, also if that is further ahead than the clock goes.
  init?(_ timeout: Duration?) {
    guard let timeout, timeout < .seconds(1 << 32) else { return nil }
    nanoseconds = UInt64(max(0, timeout.nanoseconds))
    deadline = EventLoop.deadline(in: nanoseconds)
  }

  var isOver: Bool { csupport_monotonic_ns() >= deadline }

  var remaining: Duration {
    let now = csupport_monotonic_ns()
    return .nanoseconds(now >= deadline ? 0 : Int64(clamping: deadline - now))
  }
}

/// A timer on a loop, or, if that was stopped, on the default one.
struct RequestTimer: Sendable {
  fileprivate let loop: EventLoop
  fileprivate let id: LoopTimers.ID

  func cancel() { loop.cancel(id) }
}

extension EventLoop {
  /// `false`: the loop was stopped, and nothing comes of it.
  func afterOrNever(nanoseconds: UInt64, _ body: @escaping @Sendable () -> Void) -> Bool {
    timer(on: self, nanoseconds, body) != nil
  }

  fileprivate func timer(nanoseconds: UInt64, _ body: @escaping @Sendable () -> Void) -> RequestTimer? {
    timer(on: self, nanoseconds, body) ?? timer(on: .default, nanoseconds, body)
  }

  private func timer(
    on loop: EventLoop, _ nanoseconds: UInt64, _ body: @escaping @Sendable () -> Void
  ) -> RequestTimer? {
    let deadline = Self.deadline(in: nanoseconds)
    var id: LoopTimers.ID = 0
    return loop.add { id = $0.timers.add(deadline: deadline, body) } ? RequestTimer(loop: loop, id: id) : nil
  }
}

extension MessagePort {
  /// Waits for room, until the time is up.
  nonisolated(nonsending) fileprivate func wait(
    until clock: RequestClock?, _ room: @escaping @Sendable (MessagePort) async throws -> Void
  ) async throws {
    guard let clock else { return try await room(self) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await room(self) }
      group.addTask {
        do { try await Task.sleep(for: clock.remaining) } catch { throw PortError.cancelled }
        throw PortError.timedOut
      }
      defer { group.cancelAll() }
      try await group.next()
    }
  }
}
