import DequeModule

/// What was asked over a connection, and how far that is. A value, whose verdicts are pure; the engine's lock guards it.
///
///     ── begin ──► posting ── posted ──► posted ── answer ──► gone
///         │           └── end ─► leaving ── posted ─► left ── answer ──► gone
///         └─► waiting ── leave of another ─► granted ── begin ──► posting
///
/// Whoever takes a waiter out of here resumes it, without the lock. There is one way out for each.
struct RequestTable: Sendable {
  /// What the asking task is resumed with.
  enum Word: Sendable {
    case reply(MessageEvent)
    case failed(any Error)
    /// It has waited for others, and may now be posted.
    case mayBegin
    /// The lane is full.
    case lacksSpace
    /// The kernel takes no more ports for now, and nobody tells when it does.
    case lacksTransferRoom
  }
  typealias Waiter = Resumption<Word>

  private enum Phase: Sendable {
    /// Others have to be answered first.
    case waiting(Waiter)
    /// It counts already, and its task will go on.
    case granted
    case posting(Waiter)
    case posted(Waiter)
    /// Nobody waits for the outcome any more, and the other side has to be told once it has the request.
    case leaving
    /// The other side was told. The number counts until the outcome comes.
    case left
  }
  private struct Entry: Sendable {
    var phase: Phase
    let byteCount: Int
  }

  private var entries: [UInt64: Entry] = [:]
  /// Numbers of those that wait, in order; perhaps of some that do so no more.
  private var queue = Deque<UInt64>()
  private var window = RequestWindow()
  /// Why nothing can be asked any more.
  private(set) var ended: PortError?

  var isEmpty: Bool { entries.isEmpty }
  var unansweredCount: Int { window.count }

  enum Beginning {
    case post
    case wait
    case failed(PortError)
  }

  /// - Parameter problem: why the asker does not want to any more.
  mutating func begin(
    _ number: UInt64, _ byteCount: Int, _ waiter: Waiter, problem: PortError?
  ) -> (Beginning, [Waiter]) {
    let isGranted = if case .granted = entries[number]?.phase { true } else { false }
    if let problem = ended ?? problem {
      return (.failed(problem), isGranted ? remove(number) : [])
    }
    if isGranted {
      entries[number]?.phase = .posting(waiter)
      return (.post, [])
    }
    guard queue.isEmpty, window.hasRoom(for: byteCount) else {
      entries[number] = Entry(phase: .waiting(waiter), byteCount: byteCount)
      queue.append(number)
      return (.wait, [])
    }
    window.enter(byteCount)
    entries[number] = Entry(phase: .posting(waiter), byteCount: byteCount)
    return (.post, [])
  }

  /// Returns whether the other side has to be told that nobody waits any more.
  mutating func posted(_ number: UInt64) -> Bool {
    switch entries[number]?.phase {
    case .posting(let waiter):
      entries[number]?.phase = .posted(waiter)
      return false
    case .leaving:
      entries[number]?.phase = .left
      return true
    default: return false
    }
  }

  /// It could not be posted. The waiters that may begin instead, and its own, unless that was resumed meanwhile.
  mutating func refused(_ number: UInt64) -> (own: Waiter?, others: [Waiter]) {
    switch entries[number]?.phase {
    case .posting(let waiter): (waiter, remove(number))
    case .leaving: (nil, remove(number))
    default: (nil, [])
    }
  }

  /// The outcome has come. `nil`: nobody has asked.
  mutating func answer(_ number: UInt64) -> (own: Waiter?, others: [Waiter])? {
    switch entries[number]?.phase {
    case .posting(let waiter), .posted(let waiter): (waiter, remove(number))
    case .leaving, .left: (nil, remove(number))
    case .waiting, .granted, nil: nil
    }
  }

  /// The asker gives up. Whom to tell, and whether to tell the other side.
  mutating func giveUp(_ number: UInt64) -> (own: Waiter?, tellsOther: Bool) {
    switch entries[number]?.phase {
    case .waiting(let waiter):
      entries[number] = nil
      return (waiter, false)
    case .posting(let waiter):
      entries[number]?.phase = .leaving
      return (waiter, false)
    case .posted(let waiter):
      entries[number]?.phase = .left
      return (waiter, true)
    case .granted, .leaving, .left, nil: return (nil, false)
    }
  }

  /// Nothing will come any more. Those who wait for it.
  mutating func end(_ reason: PortError) -> [Waiter] {
    guard ended == nil else { return [] }
    ended = reason
    defer { (entries, queue, window) = ([:], [], RequestWindow()) }
    return entries.keys.sorted().compactMap { number in
      switch entries[number]?.phase {
      case .waiting(let waiter), .posting(let waiter), .posted(let waiter): waiter
      case .granted, .leaving, .left, nil: nil
      }
    }
  }

  /// Returns those that may begin now.
  private mutating func remove(_ number: UInt64) -> [Waiter] {
    guard let entry = entries.removeValue(forKey: number) else { return [] }
    window.leave(entry.byteCount)
    var granted: [Waiter] = []
    while let next = queue.first {
      guard let entry = entries[next], case .waiting(let waiter) = entry.phase else {
        queue.removeFirst()
        continue
      }
      guard window.hasRoom(for: entry.byteCount) else { break }
      queue.removeFirst()
      window.enter(entry.byteCount)
      entries[next]?.phase = .granted
      granted.append(waiter)
    }
    return granted
  }
}
