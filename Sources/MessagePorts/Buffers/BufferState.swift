/// Whether a buffer that travels has its memory. A value; the handle's lock guards it.
enum BufferState: Sendable {
  case open(BufferMemory)
  /// It is being posted; only the poster changes that. Its bytes can be looked at all the same.
  case departing(BufferMemory)
  case closed, posted

  enum Refusal: Error {
    /// Ask again once the post is over.
    case isDeparting
    case error(BufferError)
  }

  func memory() throws(BufferError) -> BufferMemory {
    switch self {
    case .open(let memory), .departing(let memory): return memory
    case .closed: throw .closed
    case .posted: throw .gone
    }
  }

  /// Returns what is to be released without the lock.
  mutating func close() throws(Refusal) -> BufferMemory? {
    switch self {
    case .open(let memory):
      self = .closed
      return memory
    case .departing: throw .isDeparting
    case .closed, .posted: return nil
    }
  }

  // MARK: Posting

  var problem: BufferProblem? {
    switch self {
    case .open, .departing: nil
    case .closed: .isClosed
    case .posted: .isPosted
    }
  }

  mutating func depart() -> Bool {
    guard case .open(let memory) = self else { return false }
    self = .departing(memory)
    return true
  }

  mutating func stay() { if case .departing(let memory) = self { self = .open(memory) } }

  /// Returns the memory, which is somebody else's from now on.
  mutating func post() -> BufferMemory? {
    switch self {
    case .open(let memory), .departing(let memory):
      self = .posted
      return memory
    case .closed, .posted: return nil
    }
  }
}
