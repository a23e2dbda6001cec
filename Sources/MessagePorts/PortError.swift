public import SharedRing

/// A call into the kernel that failed: which one, and with what `errno`.
public typealias SystemError = SharedRing.SystemError

/// Which kind of memory a channel lies in once one of its ports has left the process.
public typealias MemoryBacking = SharedRing.MemoryBacking

/// Whether a channel's memory is there before it is touched.
public typealias MemoryResidency = SharedRing.MemoryResidency

/// Why an operation on a port failed. Unless a case says otherwise, the operation has had no effect.
///
/// To treat one case and let the others pass, end with a clause that throws these on. A `do` whose clauses leave cases
/// out crashes the compiler of Swift 6.3 if it is in an endless loop from which the function returns a value:
///
/// ```swift
/// func count(_ port: MessagePort, upTo limit: Int) async throws -> Int {
///   var count = 0
///   while true {
///     do {
///       count += try port.receive(timeout: .seconds(1)).byteCount
///       if count >= limit { return count }
///     } catch PortError.timedOut {
///       try await Task.sleep(for: .seconds(1))
///     } catch {
///       throw error
///     }
///   }
/// }
/// ```
public enum PortError: Error, Sendable {
  /// This port was closed by its owner; or this process was forked off after the port was made: see the article "Programs
  /// that fork".
  case closed
  /// This port was transferred away (or split); another object now stands for its end of the channel.
  case detached
  /// The port at `index` of the transfer list may not travel with this message.
  case invalidTransfer(index: Int, TransferProblem)
  /// More ports than one message can carry.
  case tooManyPorts(count: Int, limit: Int)
  /// The descriptor at `index` of the list may not travel with this message.
  case invalidDescriptor(index: Int, DescriptorProblem)
  /// The buffer at `index` of the list may not travel with this message.
  case invalidBuffer(index: Int, BufferProblem)
  /// More descriptors, buffers among them, than one message can carry: `limit` beside its ports.
  case tooManyDescriptors(count: Int, limit: Int)
  /// The message exceeds the channel's ``ChannelOptions/messageLimitBytes``.
  case messageTooLarge(byteCount: Int, limit: Int)
  /// The receiver has not read enough yet: ``ChannelOptions/queueLimitBytes`` would be exceeded.
  /// See ``MessagePort/waitForSpace(byteCount:)``.
  case queueFull(limit: Int)
  /// The receiver has not taken enough ports, descriptors and buffers yet, or too many of this user's are travelling in the whole
  /// system: the kernel queues no more. See ``MessagePort/waitForTransferSpace()``.
  case transferQueueFull(SystemError)
  /// The value could not be encoded.
  case encodingFailed(any Error)
  /// The message is not what was expected.
  case decodingFailed(any Error)
  /// The channel's memory cannot be locked, as ``ChannelOptions/residency`` or ``MessagePort/makeResident(_:)`` asks for: so many
  /// bytes more would exceed what this process may lock, `RLIMIT_MEMLOCK`.
  case lockLimitExceeded(byteCount: Int, limit: Int)
  /// The operating system refused something: descriptors, mappings, memory.
  case system(SystemError)
  /// Nothing arrived in time.
  case timedOut
  /// The waiting task was cancelled.
  case cancelled
  /// The other end is closed, and everything it had sent was received.
  case peerClosed(CloseReason)
  /// An option is out of its range; the text names it.
  case invalidOption(String)
  /// The halves given to ``MessagePort/init(joining:_:)`` are not of one port.
  case halvesDiffer
  /// A port cannot be in a set, or a set be waited for, as things are.
  case notWaitable(WaitProblem)
}

extension PortError {
  init(_ error: MemoryError) {
    switch error {
    case .lockLimit(let byteCount, let limit): self = .lockLimitExceeded(byteCount: byteCount, limit: limit)
    case .system(let error): self = .system(error)
    }
  }
}

/// Why a port cannot be in a ``PortSet``, or a set be waited for.
public enum WaitProblem: Sendable, Hashable {
  /// The port is in a set already: this one, or another.
  case isInSet
  /// The port has a message handler, which takes its messages. A connection has one from its first request on.
  case hasMessageHandler
  /// The thread is that of an event loop that listens for one of the ports: if it blocked, nobody would listen.
  case isOnItsLoop
}

/// Why a port may not travel with a message.
public enum TransferProblem: Sendable, Hashable {
  /// It is the port that the message is posted on.
  case isSendingPort
  /// It is the other end of the channel that the message is posted on.
  case isPeerOfSendingPort
  /// It is in the list twice.
  case isListedTwice
  /// Its owner closed it.
  case isClosed
  /// It was transferred away before.
  case isDetached
  /// Its channel holds its own other end, in messages that wait in it or in the ports that they carry. It cannot leave
  /// the process before somebody takes that end out.
  case holdsItself
}

/// Why a channel has closed, as told to ``MessagePort/onClose``.
public enum CloseReason: Sendable, Hashable, CustomStringConvertible {
  /// The owner of the other end closed or released it.
  case closedByPeer
  /// The other end vanished without a word: the process that held it ended. The status is known for processes that this
  /// one has spawned.
  case peerExited(ExitStatus?)
  /// The other end was in a message that nobody has received: its receiver was closed, or ended, before it came to that.
  case undelivered
  /// The other end wrote what no correct peer writes; the text says what. Its later messages, if any, are lost.
  case protocolViolation(String)

  public var description: String {
    switch self {
    case .closedByPeer: "closed by peer"
    case .peerExited(nil): "peer exited"
    case .peerExited(let status?): "peer exited: \(status)"
    case .undelivered: "undelivered"
    case .protocolViolation(let what): "protocol violation: \(what)"
    }
  }
}

/// How a process ended.
public enum ExitStatus: Sendable, Hashable, CustomStringConvertible {
  /// It returned this code.
  case exited(CInt)
  /// This signal ended it.
  case signalled(CInt)
  /// It ended, and nobody can say how: somebody else in this process has collected its status.
  case unknown

  public var description: String {
    switch self {
    case .exited(let code): "exit code \(code)"
    case .signalled(let signal): "signal \(signal)"
    case .unknown: "unknown status"
    }
  }
}

/// Why a message could not be delivered, as told to ``MessagePort/onMessageError``. The port stays open.
public enum MessageError: Error, Sendable {
  /// The message is not of the expected type.
  case undecodable(any Error)
  /// The ports that it carried could not all be received, and not because this process is out of descriptors: then it
  /// waits. They are closed.
  case portsLost(expected: Int)
  /// The same of so many descriptors, buffers among them, and perhaps ports.
  case descriptorsLost(expected: Int)
  /// A port that it carried is not what a port has to be. All its ports and descriptors are closed.
  case badPort(String)
  /// The kernel could not say what a buffer is that it carried. All its ports, descriptors and buffers are closed.
  case badBuffer(String)
  /// There was no memory for it.
  case outOfMemory
}
