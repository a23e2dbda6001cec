public import SharedRing

/// How a channel behaves; both its ends behave the same, wherever they go.
public struct ChannelOptions: Sendable, Hashable {
  /// What each direction can hold from the start once the channel is shared, in bytes; rounded up to fill whole pages.
  /// Ports grow beyond it as needed. ``PortWriter`` does not grow: what it can hold is this.
  ///
  /// The default lets an idle channel do with one page of memory.
  public var laneCapacityBytes: Int

  /// The most that may wait unread in one direction, in bytes, counting eight bytes and the rounding to eight for each
  /// message. A post beyond it throws ``PortError/queueFull(limit:)``. `nil`, the default: no limit.
  public var queueLimitBytes: Int?

  /// The largest message that can be posted or received, in bytes.
  public var messageLimitBytes: Int

  /// What a thread does before it sleeps in ``MessagePort/receive(timeout:)`` and the blocking calls of ``PortReader``.
  public var spinPolicy: SpinPolicy

  /// Where the channel's memory comes from; `nil`: memfd, or what the environment variable `MESSAGEPORTS_BACKING` says
  /// (`memfd` or `posixSharedMemory`).
  public var backing: MemoryBacking?

  /// Whether to accept ports in memory that is not sealed, which their other end can use to kill this process. Needed
  /// for `MemoryBacking.posixSharedMemory`, and then on by default.
  public var acceptsUnsealedMemory: Bool

  /// Options with these values; each default is described at its property. Nothing is checked before they are used:
  /// then what is out of range throws ``PortError/invalidOption(_:)``.
  ///
  /// - Parameters:
  ///   - laneCapacityBytes: 0 for the least, or up to 1 GiB; see ``laneCapacityBytes``.
  ///   - queueLimitBytes: not negative; see ``queueLimitBytes``.
  ///   - messageLimitBytes: 0 to 16 GiB; see ``messageLimitBytes``.
  ///   - spinPolicy: see ``spinPolicy``.
  ///   - backing: see ``backing``.
  ///   - acceptsUnsealedMemory: `nil`: only if the environment chooses POSIX shared memory; see ``acceptsUnsealedMemory``.
  public init(
    laneCapacityBytes: Int = 0, queueLimitBytes: Int? = nil, messageLimitBytes: Int = 1 << 30,
    spinPolicy: SpinPolicy = .adaptive, backing: MemoryBacking? = nil, acceptsUnsealedMemory: Bool? = nil
  ) {
    self.laneCapacityBytes = laneCapacityBytes
    self.queueLimitBytes = queueLimitBytes
    self.messageLimitBytes = messageLimitBytes
    self.spinPolicy = spinPolicy
    self.backing = backing
    self.acceptsUnsealedMemory = acceptsUnsealedMemory ?? (Environment.backing == .posixSharedMemory)
  }
}

extension ChannelOptions {
  func validate() throws(PortError) {
    guard (0...RingLayout.largestCapacity).contains(laneCapacityBytes) else {
      throw .invalidOption("laneCapacityBytes must be 0 ... \(RingLayout.largestCapacity), not \(laneCapacityBytes)")
    }
    guard (0...Self.largestMessageLimit).contains(messageLimitBytes) else {
      throw .invalidOption("messageLimitBytes must be 0 ... \(Self.largestMessageLimit), not \(messageLimitBytes)")
    }
    if let queueLimitBytes, queueLimitBytes < 0 {
      throw .invalidOption("queueLimitBytes must not be negative, as \(queueLimitBytes) is")
    }
  }

  /// A bound on what a peer can make us try to allocate.
  static let largestMessageLimit = 1 << 34
}

/// What to do before going to sleep: a sleeper costs no processor time, and tens of microseconds to wake.
public enum SpinPolicy: Sendable, Hashable {
  /// Sleep at once.
  case never
  /// Spin for as long as that has recently been worth it, at most some tens of microseconds.
  case adaptive
  /// Spin for so long, then sleep.
  case duration(Duration)
  /// Never sleep.
  case always
}
