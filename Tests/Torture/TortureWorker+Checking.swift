import Glibc
import MessagePorts

/// Checks each message and each close against what has to come.
extension TortureWorker {
  /// Checks a message against what has to come at this port: the one after the last.
  ///
  /// - Parameter hadSeenClose: whether `close` had come before the message was asked for. A handler is given its
  ///   message at this moment; a thread has taken the last one by hand some time ago, and `close` may have followed.
  func take(_ bytes: UnsafeRawBufferPointer, _ ports: [MessagePort], at held: HeldPort, hadSeenClose: Bool) {
    let sender = held.id.peer
    // A round is not over while a message is in anybody's hands.
    table.add(1, to: .busy, of: index)
    defer { table.add(-1, to: .busy, of: index) }
    if hadSeenClose { return fail("port \(held.id): a message after close") }
    let deadline = ContinuousClock.now + Self.patience
    while true {
      // Several may have messages of this port in hand, an earlier holder or another way of reading, and count them in
      // any order. So one alone counts each number, and one that was passed over, because it may have died with a
      // process, is not missing if it turns up after all.
      let (number, missed) = (table[sender, .received], table[sender, .missed] - 1)
      if let content = unsafe TortureMessage.recognize(bytes, sender, number, portCount: ports.count) {
        guard table.exchange(sender, .received, number, for: number + 1) else { continue }
        return accept(content, number, bytes.count, ports, at: held)
      }
      if held.state.withLock({ $0.mayMissOne }),
        let content = unsafe TortureMessage.recognize(bytes, sender, number + 1, portCount: ports.count)
      {
        guard table.exchange(sender, .received, number, for: number + 2) else { continue }
        table[sender, .missed] = number + 1
        return accept(content, number + 1, bytes.count, ports, at: held)
      }
      if missed >= 0, let content = unsafe TortureMessage.recognize(bytes, sender, missed, portCount: ports.count),
        table.exchange(sender, .missed, missed + 1, for: 0)
      {
        return accept(content, missed, bytes.count, ports, at: held)
      }
      guard ContinuousClock.now < deadline else { return unsafe fail(describe(bytes, ports, at: held)) }
      usleep(200)
    }
  }

  /// Goes on with a message that is counted. The round is not over before this returns.
  private func accept(
    _ content: TortureMessage.Content, _ number: Int, _ byteCount: Int, _ ports: [MessagePort], at held: HeldPort
  ) {
    let sender = held.id.peer
    held.state.withLock { $0.mayMissOne = false }
    if number >= table[sender, .attempted] { fail("port \(held.id): message \(number) was never posted") }
    if case .cargo(let cargo) = content { arrived(ports, cargo) }
    answer(held)
    table.add(1, to: .messages, of: index)
    table.add(byteCount, to: .bytes, of: index)
  }

  private func answer(_ held: HeldPort) {
    guard table[held.id, .posted] < held.state.withLock({ $0.answersUntil }) else { return }
    do { try post(held, isSmall: true) } catch { if !held.port.isClosed { fail("port \(held.id): \(error)") } }
  }

  /// What came instead of what had to come.
  private func describe(_ bytes: UnsafeRawBufferPointer, _ ports: [MessagePort], at held: HeldPort) -> String {
    let sender = held.id.peer
    let number = table[sender, .received]
    let window = max(0, number - 1000)..<max(number + 1000, table[sender, .attempted])
    let other = window.first { number in
      unsafe TortureMessage.recognize(bytes, sender, number, portCount: ports.count) != nil
    }
    let found =
      other.map { "its message \($0)" }
      ?? "\(bytes.count) bytes with \(ports.count) ports that are none of its messages"
    let mayMissOne = held.state.withLock { $0.mayMissOne }
    return "port \(held.id): expected message \(number) of \(sender), which has posted \(table[sender, .posted]), "
      + "got \(found)\(mayMissOne ? "; it may miss one" : "")"
  }

  func sawClose(_ held: HeldPort) {
    let isFirst = held.state.withLock { state in
      defer { state.hasSeenClose = true }
      return !state.hasSeenClose
    }
    guard isFirst else { return fail("port \(held.id): a second close") }
    let sender = held.id.peer
    let missing = held.state.withLock { $0.mayMissOne } ? 1 : 0
    let deadline = ContinuousClock.now + Self.patience
    // The thread that took the last message may not have counted it yet.
    while table[sender, .received] < table[sender, .posted] - missing {
      guard ContinuousClock.now < deadline else {
        return fail("port \(held.id): close after \(table[sender, .received]) of \(table[sender, .posted]) messages")
      }
      usleep(200)
    }
    table[held.id, .hasSeenClose] = 1
  }
}
