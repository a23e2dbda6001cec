import CSupport
import SharedRing

/// An open descriptor, and who has it: what travels in a message beside ports.
///
/// Anything that has a descriptor can travel: a file, a pipe, a socket, a process, a device, memory. The receiver gets a
/// number of its own for the same open file.
///
/// ```swift
/// func hand(_ client: CInt, to worker: MessagePort) throws {
///   let connection = try Descriptor(owning: client)
///   try worker.postMessage("serve", descriptors: [connection])
///   // Gone from here. Had the post thrown, `connection` would still have it.
/// }
/// ```
///
/// Whoever receives one takes it out, for a type of their own: `FileDescriptor(rawValue: try descriptor.take())` of the
/// package swift-system, or `FileHandle(taking:)` of `MessagePortsFoundation`. What nobody takes is closed with the last
/// reference to this object. A number that this has is always close-on-exec and never 0, 1 or 2.
///
/// What a peer sends may be a descriptor of any kind, whatever it says: using it, even asking what it is, may take as long
/// as the peer likes, or fail. Closing it, which may take as long, is done by a thread of the library.
///
/// Thread safety: any thread may use any member. In a process that was forked without an exec, descriptors that existed
/// before are closed.
public final class Descriptor: Sendable {
  private let state: Lock<DescriptorState>
  /// Of what a peer has sent: whether it was any use.
  private let waste: WasteMark?
  private let mark = ProcessMark.current

  private init(_ number: CInt, _ waste: WasteMark?) {
    state = Lock(.open(number, users: 0))
    self.waste = waste
  }

  /// What has arrived.
  convenience init(received number: CInt, from waste: WasteMark) { self.init(number, waste) }

  /// Takes an open descriptor over from the program, which uses the number no more.
  ///
  /// It becomes close-on-exec. One of the standard descriptors, 0 to 2, gets a number above them, and its own is free
  /// afterwards.
  ///
  /// - Throws: ``DescriptorError/system(_:)``: it is not open, or none is left. It is then as before, and the program's.
  /// - Complexity: a system call, three for a standard descriptor.
  public convenience init(owning number: CInt) throws(DescriptorError) {
    do throws(SystemError) {
      self.init(try checkOnce("fcntl", csupport_take_over(number)), nil)
    } catch {
      throw .system(error)
    }
  }

  /// Has a number of its own for the same open file; `number` stays the program's. Position, flags and locks of an open
  /// file are the same by whatever number it is used.
  ///
  /// - Throws: ``DescriptorError/system(_:)``: it is not open, or none is left.
  /// - Complexity: one system call.
  public convenience init(duplicating number: CInt) throws(DescriptorError) { try self.init(copying: number, nil) }

  private convenience init(copying number: CInt, _ waste: WasteMark?) throws(DescriptorError) {
    do throws(SystemError) {
      self.init(try checkOnce("fcntl", csupport_duplicate(number)), waste)
    } catch {
      throw .system(error)
    }
  }

  deinit {
    switch state.withLock({ $0 }) {
    case .open(let number, _), .closing(let number, _), .departing(let number): letGo(number)
    case .closed, .taken, .posted: break
    }
  }

  // MARK: Using it

  /// Whether this has a descriptor: it was not taken, closed or posted.
  public var isOpen: Bool {
    if mark.isInherited { return false }
    return switch state.withLock({ $0 }) {
    case .open, .departing: true
    case .closing, .closed, .taken, .posted: false
    }
  }

  /// Gives the descriptor to the caller, who closes it. This has none afterwards.
  ///
  /// - Throws: ``DescriptorError/closed``, ``DescriptorError/taken``, ``DescriptorError/posted``,
  ///   ``DescriptorError/inUse``; nothing has changed.
  public func take() throws(DescriptorError) -> CInt {
    let number = try settled { (state) throws(DescriptorState.Refusal) in try state.take() }
    csupport_give_up(number)
    return number
  }

  /// Lends the descriptor to `body`, which must not close or keep it. While it is lent, it can be neither taken nor
  /// posted, and closing it takes effect when the last `body` has returned.
  ///
  /// - Throws: ``DescriptorError/closed``, ``DescriptorError/taken``, ``DescriptorError/posted``; or what `body` throws.
  public func withDescriptor<Result>(_ body: (CInt) throws -> Result) throws -> Result {
    let number = try settled { (state) throws(DescriptorState.Refusal) in try state.beginUse() }
    defer { endUse() }
    return try body(number)
  }

  /// Another one for the same open file; see ``init(duplicating:)``.
  ///
  /// - Throws: ``DescriptorError``, as ``withDescriptor(_:)`` and ``init(duplicating:)``.
  public func duplicate() throws(DescriptorError) -> Descriptor {
    let number = try settled { (state) throws(DescriptorState.Refusal) in try state.beginUse() }
    defer { endUse() }
    return try Descriptor(copying: number, waste)
  }

  private func endUse() {
    if let number = state.withLock({ $0.endUse() }) { letGo(number) }
  }

  /// Closes the descriptor, unless it was taken, posted or closed before. Does not wait for that, which may take as long as
  /// whoever made the file likes; to be sure, take it and close it.
  public func close() {
    let number = try? settled { (state) throws(DescriptorState.Refusal) in try state.close() }
    if let number = number ?? nil { letGo(number) }
  }

  private func letGo(_ number: CInt) {
    if mark.isInherited {
      // What is left of it in a forked child.
      _ = csupport_close(number)
      return
    }
    waste?.note()
    csupport_close_elsewhere(number)
  }

  /// Makes a step; if a post is under way, once that has returned or thrown.
  private func settled<Result>(
    _ step: (inout DescriptorState) throws(DescriptorState.Refusal) -> Result
  ) throws(DescriptorError) -> Result {
    while true {
      if mark.isInherited { throw .closed }
      do throws(DescriptorState.Refusal) {
        return try state.withLock { (state) throws(DescriptorState.Refusal) in try step(&state) }
      } catch {
        switch error {
        case .isDeparting: TransferLock.wait { isDeparting }
        case .error(let error): throw error
        }
      }
    }
  }

  // MARK: In a message

  /// A post of it is under way.
  var isDeparting: Bool { if case .departing = state.withLock({ $0 }) { true } else { false } }

  /// Why it cannot be posted, if so. One that is departing may come back.
  var problem: DescriptorProblem? { mark.isInherited ? .isClosed : state.withLock { $0.problem } }

  /// A post begins; nothing else happens to it until ``stay()``, ``moveOn()`` or ``leave()``. Not if there is a ``problem``.
  func depart() -> Bool { state.withLock { $0.depart() } }

  /// The number, of one that is departing, or waits in a queue, where nobody else can reach it.
  var number: CInt {
    switch state.withLock({ $0 }) {
    case .open(let number, _), .closing(let number, _), .departing(let number): number
    case .closed, .taken, .posted: -1
    }
  }

  /// It was not posted after all.
  func stay() { state.withLock { $0.stay() } }

  /// It goes over to another object in this process.
  func moveOn() -> Descriptor {
    let number = state.withLock { $0.post() }
    return Descriptor(number ?? -1, waste)
  }

  /// It was sent to another process: what is left here is a number.
  func leave() -> SentDescriptor? { state.withLock { $0.post() }.map { SentDescriptor(number: $0, waste: waste) } }
}

/// This process's number for a file that another process has by now.
struct SentDescriptor: Sendable {
  fileprivate let number: CInt
  fileprivate let waste: WasteMark?

  /// Not with a lock held.
  func close() {
    waste?.note()
    csupport_close_sent_elsewhere(number)
  }
}
