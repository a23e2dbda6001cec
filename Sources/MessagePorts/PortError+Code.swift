extension PortError {
  /// Which error it is, without what comes with it: to compare, to count, or to test for.
  public enum Code: Sendable, Hashable, CaseIterable {
    /// See ``PortError/closed``.
    case closed
    /// See ``PortError/detached``.
    case detached
    /// See ``PortError/invalidTransfer(index:_:)``.
    case invalidTransfer
    /// See ``PortError/tooManyPorts(count:limit:)``.
    case tooManyPorts
    /// See ``PortError/invalidDescriptor(index:_:)``.
    case invalidDescriptor
    /// See ``PortError/invalidBuffer(index:_:)``.
    case invalidBuffer
    /// See ``PortError/tooManyDescriptors(count:limit:)``.
    case tooManyDescriptors
    /// See ``PortError/messageTooLarge(byteCount:limit:)``.
    case messageTooLarge
    /// See ``PortError/queueFull(limit:)``.
    case queueFull
    /// See ``PortError/transferQueueFull(_:)``.
    case transferQueueFull
    /// See ``PortError/encodingFailed(_:)``.
    case encodingFailed
    /// See ``PortError/decodingFailed(_:)``.
    case decodingFailed
    /// See ``PortError/lockLimitExceeded(byteCount:limit:)``.
    case lockLimitExceeded
    /// See ``PortError/system(_:)``.
    case system
    /// See ``PortError/timedOut``.
    case timedOut
    /// See ``PortError/cancelled``.
    case cancelled
    /// See ``PortError/peerClosed(_:)``.
    case peerClosed
    /// See ``PortError/invalidOption(_:)``.
    case invalidOption
    /// See ``PortError/halvesDiffer``.
    case halvesDiffer
    /// See ``PortError/notWaitable(_:)``.
    case notWaitable
  }

  /// Which error it is.
  public var code: Code {
    switch self {
    case .closed: .closed
    case .detached: .detached
    case .invalidTransfer: .invalidTransfer
    case .tooManyPorts: .tooManyPorts
    case .invalidDescriptor: .invalidDescriptor
    case .invalidBuffer: .invalidBuffer
    case .tooManyDescriptors: .tooManyDescriptors
    case .messageTooLarge: .messageTooLarge
    case .queueFull: .queueFull
    case .transferQueueFull: .transferQueueFull
    case .encodingFailed: .encodingFailed
    case .decodingFailed: .decodingFailed
    case .lockLimitExceeded: .lockLimitExceeded
    case .system: .system
    case .timedOut: .timedOut
    case .cancelled: .cancelled
    case .peerClosed: .peerClosed
    case .invalidOption: .invalidOption
    case .halvesDiffer: .halvesDiffer
    case .notWaitable: .notWaitable
    }
  }
}
