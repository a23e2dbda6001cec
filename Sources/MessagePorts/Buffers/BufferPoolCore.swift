import SharedRing

/// What a ``SharedBufferPool`` stands for, and its loans refer to.
final class BufferPoolCore: Sendable {
  let byteCount: Int
  private let prefersHugePages: Bool
  private let state: PerProcess<BufferPoolState>

  init(byteCount: Int, capacity: Int, prefersHugePages: Bool) {
    self.byteCount = byteCount
    self.prefersHugePages = prefersHugePages
    // What a forked child inherits was lent by another process.
    state = PerProcess(BufferPoolState(capacity: capacity)) { BufferPoolState(capacity: 0, isClosed: true) }
  }

  var lentCount: Int { state.withLock { $0.lentCount } }

  // MARK: Lending

  func tryTake() throws(BufferError) -> UntrustedBuffer? {
    guard let grant = state.withLock({ $0.take() }) else { return nil }
    return try use(grant)
  }

  func take() async throws(BufferError) -> UntrustedBuffer {
    let id = WaiterID.next()
    let grant = await withTaskCancellationHandler {
      await Resumption<BufferPoolState.Grant>.suspend { resumption in
        let grant = state.withLock { state -> BufferPoolState.Grant? in
          if Task.isCancelled { return .failed(.cancelled) }
          if let grant = state.take() { return grant }
          state.add(BufferPoolState.Waiter(id: id, resumption: resumption))
          return nil
        }
        if let grant { resumption.resume(grant) }
      }
    } onCancel: {
      state.withLock { $0.removeWaiter(id) }?.resumption.resume(.failed(.cancelled))
    }
    return try use(grant)
  }

  private func use(_ grant: BufferPoolState.Grant) throws(BufferError) -> UntrustedBuffer {
    switch grant {
    case .failed(let error): throw error
    case .slot(let index):
      guard let slot = state.withLock({ $0.slot(index) }) else { throw .closed }
      return lend(slot, index)
    case .make:
      let slot: BufferPoolState.Slot
      do throws(BufferError) {
        slot = try make()
      } catch {
        state.withLock { $0.couldNotMake() }?.resumption.resume(.make)
        throw error
      }
      guard let index = state.withLock({ $0.add(slot) }) else { throw .closed }
      return lend(slot, index)
    }
  }

  private func lend(_ slot: BufferPoolState.Slot, _ index: Int) -> UntrustedBuffer {
    UntrustedBuffer(BufferMemory(slot.file, mapped: slot.bytes, loan: BufferLoan(of: index, in: self)))
  }

  private func make() throws(BufferError) -> BufferPoolState.Slot {
    do throws(SystemError) {
      let memory = try WritableMemory(byteCount: byteCount, wantsHugePages: prefersHugePages)
      return try BufferPoolState.Slot(memory.seal(as: .shared))
    } catch {
      throw .system(error)
    }
  }

  // MARK: Coming back

  func giveBack(_ buffer: MessageBuffer) throws(BufferError) {
    let memory = try buffer.handle.memory()
    if let loan = memory.loan {
      guard loan.pool === self else { throw .notLent }
      // It is back with the last copy.
      return buffer.close()
    }
    let identity: ChannelMemory.Identity
    do throws(SystemError) { identity = try memory.file.identity() } catch { throw .system(error) }
    let (isBack, next) = try state.withLock {
      (state) throws(BufferError) -> (Bool, (index: Int, waiter: BufferPoolState.Waiter)?) in
      if state.isClosed { throw .closed }
      guard let (index, next) = state.isBack(identity) else { return (false, nil) }
      return (true, next.map { (index, $0) })
    }
    guard isBack else { throw .notLent }
    // What has come is another hold on the same memory.
    buffer.close()
    if let next { next.waiter.resumption.resume(.slot(next.index)) }
  }

  /// Without a lock, on any thread.
  func isGoneHere(_ index: Int) { state.withLock { $0.isGoneHere(index) }?.resumption.resume(.slot(index)) }

  func leaves(_ index: Int) { state.withLock { $0.leaves(index) } }

  func stays(_ index: Int) { state.withLock { $0.stays(index) }?.resumption.resume(.slot(index)) }

  func close() {
    let (slots, waiters) = state.withLock { $0.close() }
    for waiter in waiters { waiter.resumption.resume(.failed(.closed)) }
    _ = consume slots
  }
}
