import DequeModule
import SharedRing

/// Which buffers of a pool are where. A value; the pool's lock guards it.
struct BufferPoolState: Sendable {
  /// A buffer that the pool has made. It keeps it, with its mapping, wherever else it is.
  struct Slot: Sendable {
    let file: BufferFile
    let bytes: BufferBytes
    let identity: ChannelMemory.Identity
    /// Somebody in this process has it.
    fileprivate var isHere = true
    /// How often it was sent to another process and not given back.
    fileprivate var away = 0

    fileprivate var isIdle: Bool { !isHere && away == 0 }
  }

  /// What a taker may do.
  enum Grant: Sendable {
    case slot(Int)
    /// There is room for another one, which is kept for the taker.
    case make
    case failed(BufferError)
  }

  struct Waiter: Sendable {
    let id: UInt64
    let resumption: Resumption<Grant>
  }

  private let capacity: Int
  private(set) var isClosed = false
  private var slots: [Slot] = []
  /// The one that was used last comes first: it may still be in a cache.
  private var idle: [Int] = []
  /// Slots to be, whose memory is being made.
  private var making = 0
  private var waiters = Deque<Waiter>()

  init(capacity: Int, isClosed: Bool = false) {
    self.capacity = capacity
    self.isClosed = isClosed
  }

  var lentCount: Int { slots.count - idle.count }

  func slot(_ index: Int) -> Slot? { isClosed ? nil : slots[index] }

  /// `nil`: all are out.
  mutating func take() -> Grant? {
    if isClosed { return .failed(.closed) }
    if let index = idle.popLast() {
      slots[index].isHere = true
      return .slot(index)
    }
    guard slots.count + making < capacity else { return nil }
    making += 1
    return .make
  }

  // MARK: Making

  /// A buffer was made: it is lent at once. `nil`: the pool is closed.
  mutating func add(_ slot: Slot) -> Int? {
    making -= 1
    if isClosed { return nil }
    slots.append(slot)
    return slots.count - 1
  }

  /// It was not. Returns who may try next.
  mutating func couldNotMake() -> Waiter? {
    making -= 1
    guard !isClosed, let waiter = waiters.popFirst() else { return nil }
    making += 1
    return waiter
  }

  // MARK: Waiting

  mutating func add(_ waiter: Waiter) { waiters.append(waiter) }

  mutating func removeWaiter(_ id: UInt64) -> Waiter? {
    waiters.firstIndex { $0.id == id }.map { waiters.remove(at: $0) }
  }

  // MARK: Where they are

  mutating func leaves(_ index: Int) { if !isClosed { slots[index].away += 1 } }

  /// The last one in this process is gone. Returns who has it next.
  mutating func isGoneHere(_ index: Int) -> Waiter? {
    if isClosed { return nil }
    slots[index].isHere = false
    return settle(index)
  }

  /// One that had left is back, or has not left. Returns which it is, and who has it next; `nil`: it was not away.
  mutating func isBack(_ identity: ChannelMemory.Identity) -> (index: Int, next: Waiter?)? {
    guard let index = slots.firstIndex(where: { $0.identity == identity }) else { return nil }
    guard slots[index].away > 0 else { return nil }
    return (index, stays(index))
  }

  mutating func stays(_ index: Int) -> Waiter? {
    if isClosed { return nil }
    slots[index].away -= 1
    return settle(index)
  }

  private mutating func settle(_ index: Int) -> Waiter? {
    guard slots[index].isIdle else { return nil }
    guard let waiter = waiters.popFirst() else {
      idle.append(index)
      return nil
    }
    slots[index].isHere = true
    return waiter
  }

  /// Returns what is to be released, and resumed, without the lock.
  mutating func close() -> (slots: [Slot], waiters: Deque<Waiter>) {
    isClosed = true
    defer { (slots, idle, waiters) = ([], [], []) }
    return (slots, waiters)
  }
}

extension BufferPoolState.Slot {
  init(_ file: BufferFile) throws(SystemError) {
    self.init(file: file, bytes: try file.map(), identity: try file.identity())
  }
}
