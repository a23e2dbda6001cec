/// What a loop has to do, and when: a binary heap, the next one first, which knows the place of each.
///
/// Adding, taking and cancelling take O(log n). What is cancelled leaves nothing behind.
struct LoopTimers: Sendable {
  typealias ID = UInt64

  private struct Timer: Sendable {
    let id: ID
    let deadline: UInt64
    let body: @Sendable () -> Void

    /// At the same time, they come in the order in which they were added.
    func isBefore(_ other: Timer) -> Bool { (deadline, id) < (other.deadline, other.id) }
  }
  private var heap: [Timer] = []
  private var places: [ID: Int] = [:]
  private var lastID: ID = ProcessMark.firstNumber

  var count: Int { heap.count }

  /// The next one's time, in nanoseconds of the monotonic clock.
  var nextDeadline: UInt64? { heap.first?.deadline }

  mutating func add(deadline: UInt64, _ body: @escaping @Sendable () -> Void) -> ID {
    lastID += 1
    heap.append(Timer(id: lastID, deadline: deadline, body: body))
    places[lastID] = heap.count - 1
    moveUp(from: heap.count - 1)
    return lastID
  }

  /// Returns what will not be done. Release it without a lock.
  @discardableResult
  mutating func cancel(_ id: ID) -> (@Sendable () -> Void)? { places[id].map { remove(at: $0).body } }

  /// Those whose time has come, in order.
  mutating func takeDue(now: UInt64) -> [@Sendable () -> Void] {
    var due: [@Sendable () -> Void] = []
    while let next = heap.first, next.deadline <= now { due.append(remove(at: 0).body) }
    return due
  }

  private mutating func remove(at place: Int) -> Timer {
    swap(place, heap.count - 1)
    let timer = heap.removeLast()
    places[timer.id] = nil
    if place < heap.count {
      moveUp(from: place)
      moveDown(from: place)
    }
    return timer
  }

  private mutating func moveUp(from place: Int) {
    var place = place
    while place > 0, heap[place].isBefore(heap[(place - 1) / 2]) {
      swap(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  private mutating func moveDown(from place: Int) {
    var place = place
    while let child = firstChild(of: place), heap[child].isBefore(heap[place]) {
      swap(place, child)
      place = child
    }
  }

  private func firstChild(of place: Int) -> Int? {
    let (left, right) = (2 * place + 1, 2 * place + 2)
    guard right < heap.count else { return left < heap.count ? left : nil }
    return heap[right].isBefore(heap[left]) ? right : left
  }

  private mutating func swap(_ first: Int, _ second: Int) {
    heap.swapAt(first, second)
    places[heap[first].id] = first
    places[heap[second].id] = second
  }
}
