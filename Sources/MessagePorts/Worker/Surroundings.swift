import CSupport
import Glibc
import SharedRing

/// What a new process has otherwise than this one, made ready: files are opened, numbers given out, options checked. What was
/// opened for the process closes with this.
final class Surroundings {
  private(set) var inherited: [csupport_inherited_fd] = []
  let directory: [UInt8]?
  let session: csupport_session
  let parentDeathSignal: CInt
  let limits: [csupport_limit]
  /// A confined process gets nothing by accident.
  let hasNothingElse: Bool
  /// This process's ends of the worker's pipes.
  private(set) var pipes: [StandardDescriptor: CInt] = [:]
  private var owned: [CInt] = []

  init(_ options: WorkerOptions) throws(ConnectionError) {
    directory = options.workingDirectory.map { Array($0.utf8) }
    if let directory { try Program.check(directory, "the working directory") }
    session =
      switch options.session {
      case .inherited: CSUPPORT_SAME_SESSION
      case .newGroup: CSUPPORT_NEW_GROUP
      case .newSession: CSUPPORT_NEW_SESSION
      }
    parentDeathSignal = options.parentDeathSignal ?? 0
    if options.parentDeathSignal != nil, !(1...64).contains(parentDeathSignal) {
      throw .invalidOption("parentDeathSignal: no signal has the number \(parentDeathSignal)")
    }
    hasNothingElse = options.confinement != nil
    limits = options.limits.map { csupport_limit(resource: $0.key.number, value: $0.value) }
    for (number, descriptor) in options.descriptors {
      guard number > STDERR_FILENO else {
        throw .invalidOption("descriptors: \(number) is a standard descriptor's number")
      }
      try add(descriptor, as: number, "descriptors: \(number)")
    }
    try open(options.standardInput, as: .input)
    try open(options.standardOutput, as: .output)
    try open(options.standardError, as: .error)
  }

  deinit {
    closeOwned()
    for descriptor in pipes.values { _ = csupport_close(descriptor) }
  }

  /// Gives the process a descriptor of this one, which stays as it is, under the lowest number that is free. Returns the number.
  func add(_ descriptor: CInt) -> CInt {
    var number = STDERR_FILENO + 1
    while inherited.contains(where: { $0.child_fd == number }) { number += 1 }
    inherited.append(csupport_inherited_fd(parent_fd: descriptor, child_fd: number))
    return number
  }

  /// The same, and closes it here with this.
  func add(owning descriptor: CInt) -> CInt {
    owned.append(descriptor)
    return add(descriptor)
  }

  /// Once the process has its copies.
  func closeOwned() {
    for descriptor in owned { _ = csupport_close(descriptor) }
    owned = []
  }

  /// The pipes are somebody else's from here on.
  func takePipes() -> [StandardDescriptor: CInt] {
    defer { pipes = [:] }
    return pipes
  }

  /// Calls `body` with all of that as the kernel's thin layer takes it.
  @unsafe
  func withC<Result>(_ body: (UnsafePointer<csupport_surroundings>) -> Result) -> Result {
    unsafe inherited.withUnsafeBufferPointer { inherited in
      unsafe limits.withUnsafeBufferPointer { limits in
        unsafe ((directory ?? []) + [0]).withUnsafeBytes { path in
          let path = unsafe directory == nil ? nil : path.baseAddress?.assumingMemoryBound(to: CChar.self)
          var surroundings = unsafe csupport_surroundings(
            fds: inherited.baseAddress, fd_count: inherited.count, directory: path, session: session,
            parent_death_signal: parentDeathSignal, limits: limits.baseAddress, limit_count: limits.count,
            has_nothing_else: hasNothingElse)
          return unsafe body(&surroundings)
        }
      }
    }
  }

  // MARK: Descriptors

  private func add(_ descriptor: CInt, as number: CInt, _ what: String) throws(ConnectionError) {
    guard fcntl(descriptor, F_GETFD) >= 0 else { throw .invalidOption("\(what): \(descriptor) is no open descriptor") }
    inherited.append(csupport_inherited_fd(parent_fd: descriptor, child_fd: number))
  }

  private func open(_ stream: StandardStream, as standard: StandardDescriptor) throws(ConnectionError) {
    let number = standard.rawValue
    switch stream {
    case .inherit: break
    case .descriptor(let descriptor): try add(descriptor, as: number, "standard \(standard)")
    case .null: try open("/dev/null", O_RDWR, as: number)
    case .file(let path, _) where standard == .input: try open(path, O_RDONLY, as: number)
    case .file(let path, let append):
      try open(path, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC), as: number)
    case .pipe:
      var ends: (CInt, CInt) = (-1, -1)
      do throws(SystemError) {
        try checkOnce("pipe2", unsafe csupport_pipe(&ends.0, &ends.1))
      } catch {
        throw .system(error)
      }
      let (reading, writing) = ends
      let (ours, theirs) = standard == .input ? (writing, reading) : (reading, writing)
      pipes[standard] = ours
      owned.append(theirs)
      inherited.append(csupport_inherited_fd(parent_fd: theirs, child_fd: number))
    }
  }

  private func open(_ path: String, _ flags: CInt, as number: CInt) throws(ConnectionError) {
    try Program.check(Array(path.utf8), "the path of a standard stream")
    let descriptor = unsafe csupport_open(path, flags)
    if descriptor < 0 { throw .cannotOpen(path: path, SystemError(call: "open", errno: -descriptor)) }
    owned.append(descriptor)
    inherited.append(csupport_inherited_fd(parent_fd: descriptor, child_fd: number))
  }
}
