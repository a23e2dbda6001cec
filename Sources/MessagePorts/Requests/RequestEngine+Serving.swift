import SharedRing

extension RequestEngine {
  /// A request has come.
  func serve(_ envelope: NamedEnvelope, over connection: Connection, _ handlers: Connection.NamedHandlers?) {
    let handler = handlers?.table.withLock { $0.requests[envelope.name] }
    let context = RequestContext(envelope, over: connection)
    switch state.withLock({ $0.served.arrive(context, handler) }) {
    case .run(let work):
      let loop = connection.eventLoop
      crashPoint(.requestTaken)
      run(work, on: loop, atOnce: loop.isCurrent)
    case .wait, .tooLate: break
    case .answer: answerAtOnce(.noHandler(envelope.name), envelope.number, over: connection)
    case .violation(let what): complain(what, over: connection)
    }
  }

  /// On the loop, the handler runs here and now until it suspends: so requests begin in the order in which they were sent,
  /// and one that does not suspend is answered without a switch of threads.
  private func run(_ work: ServingTable.Work, on loop: EventLoop, atOnce: Bool) {
    let body: @Sendable () async -> Void = { await self.handle(work) }
    let task =
      atOnce
      ? Task.immediate(executorPreference: loop, operation: body) : Task(executorPreference: loop, operation: body)
    if work.context.isAnswered { return }
    if state.withLock({ $0.served.started(work.context.number, task) }) { task.cancel() }
  }

  nonisolated(nonsending) private func handle(_ work: ServingTable.Work) async {
    // While the process ends, no handler begins any more.
    guard !ProcessEnd.hasCome else { return }
    let (number, port) = (work.context.number, work.context.connection.port)
    var envelope: [UInt8]?
    var cargo: MessageCargo?
    do {
      let reply = try await work.handler(work.context)
      envelope = unsafe NamedEnvelope.make(.reply, number, reply.span.bytes)
      if work.context.hasCargo { cargo = state.withLock { $0.served.takeCargo(of: number) } }
    } catch {
      envelope = RequestFailure(thrown: error).envelope(number)
    }
    if let envelope { await post(envelope, cargo, number, on: port) }
    crashPoint(.replyPosted)
    work.context.noteAnswered()
    answered(number)
  }

  nonisolated(nonsending) private func post(
    _ envelope: [UInt8], _ cargo: MessageCargo?, _ number: UInt64, on port: MessagePort
  ) async {
    do throws(PortError) {
      // Nearly always there is room.
      do throws(PortError) { return try port.postMessage(bytes: envelope, with: cargo) } catch {
        switch error {
        case .queueFull, .transferQueueFull: try await port.postPatiently(envelope, with: cargo)
        default: throw error
        }
      }
    } catch {
      await postInstead(error, number, on: port)
    }
  }

  /// What was to be posted cannot be: too large, or with ports that may not travel. So much can be said in any case.
  private func postInstead(_ problem: PortError, _ number: UInt64, on port: MessagePort) async {
    switch problem {
    case .closed, .detached: return
    default: break
    }
    let failure = RequestFailure(thrown: problem)
    if (try? await port.postPatiently(failure.envelope(number))) != nil { return }
    // No larger than the request.
    guard let envelope = NamedEnvelope.make(.failure, number, RawSpan()) else { return }
    try? await port.postPatiently(envelope)
  }

  private func answered(_ number: UInt64) {
    let (runnable, released) = state.withLock { $0.served.answered(number) }
    _ = consume released
    for work in runnable { run(work, on: work.context.connection.eventLoop, atOnce: false) }
  }

  /// Nobody waits for the outcome any more.
  func cancelServing(_ number: UInt64, over connection: Connection) {
    switch state.withLock({ $0.served.cancel(number) }) {
    case .cancel(let task): task.cancel()
    case .answer: answerAtOnce(.cancelled, number, over: connection)
    // The answer has crossed it; or it is nonsense.
    case .nothing: break
    }
  }

  private func answerAtOnce(_ failure: RequestFailure, _ number: UInt64, over connection: Connection) {
    let envelope = failure.envelope(number)
    do throws(PortError) {
      try connection.port.postMessage(bytes: envelope)
      answered(number)
    } catch {
      Task(executorPreference: connection.eventLoop) {
        await self.post(envelope, nil, number, on: connection.port)
        self.answered(number)
      }
    }
  }

  func setLimit(_ limit: Int) {
    for work in state.withLock({ $0.served.setLimit(limit) }) {
      run(work, on: work.context.connection.eventLoop, atOnce: false)
    }
  }
}
