import Glibc

/// Whether a ``Descriptor`` has one, and who uses it. A value; the object's lock guards it.
enum DescriptorState: Sendable {
  case open(CInt, users: Int)
  /// It was closed, and the last of its users lets go of the number.
  case closing(CInt, users: Int)
  /// It is being posted; only the poster changes that.
  case departing(CInt)
  case closed, taken, posted

  enum Refusal: Error {
    /// Ask again once the post is over.
    case isDeparting
    case error(DescriptorError)
  }

  /// Why there is none.
  private var refusal: Refusal {
    switch self {
    case .open: .error(.inUse)
    case .departing: .isDeparting
    case .closing, .closed: .error(.closed)
    case .taken: .error(.taken)
    case .posted: .error(.posted)
    }
  }

  mutating func beginUse() throws(Refusal) -> CInt {
    guard case .open(let number, let users) = self else { throw refusal }
    self = .open(number, users: users + 1)
    return number
  }

  /// Returns what is to be closed now.
  mutating func endUse() -> CInt? {
    switch self {
    case .open(let number, let users): self = .open(number, users: users - 1)
    case .closing(let number, users: 1):
      self = .closed
      return number
    case .closing(let number, let users): self = .closing(number, users: users - 1)
    case .departing, .closed, .taken, .posted: break
    }
    return nil
  }

  mutating func take() throws(Refusal) -> CInt {
    guard case .open(let number, users: 0) = self else { throw refusal }
    self = .taken
    return number
  }

  /// Returns what is to be closed now.
  mutating func close() throws(Refusal) -> CInt? {
    switch self {
    case .open(let number, users: 0):
      self = .closed
      return number
    case .open(let number, let users):
      self = .closing(number, users: users)
      return nil
    default: throw refusal
    }
  }

  // MARK: Posting

  var problem: DescriptorProblem? {
    switch self {
    case .open(_, users: 0), .departing: nil
    case .open: .isInUse
    case .closing, .closed: .isClosed
    case .taken: .isTaken
    case .posted: .isPosted
    }
  }

  mutating func depart() -> Bool {
    guard case .open(let number, users: 0) = self else { return false }
    self = .departing(number)
    return true
  }

  mutating func stay() { if case .departing(let number) = self { self = .open(number, users: 0) } }

  /// Returns the number, which is somebody else's from now on.
  mutating func post() -> CInt? {
    switch self {
    case .open(let number, _), .departing(let number):
      self = .posted
      return number
    case .closing, .closed, .taken, .posted: return nil
    }
  }
}
