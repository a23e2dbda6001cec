public import SharedRing

/// How a channel behaves: the same at both ends, wherever they go.
public struct ChannelOptions: Sendable, Hashable {
  /// What each direction can hold once the channel is shared, in bytes; rounded up to fill whole pages. Ports grow
  /// beyond it as needed; ``PortWriter`` does not.
  ///
  /// The default, 0, stands for the least that there can be: an idle channel takes one page of memory for everything, of which
  /// each direction has some 1,500 bytes until it grows. Set it for halves: a ``PortWriter`` has no more than this.
  public var laneCapacityBytes: Int

  /// The most that may wait unread in one direction, in bytes: each message counts with eight more than its size,
  /// rounded up to eight. A post beyond it throws ``PortError/queueFull(limit:)``. `nil`, the default: no limit.
  public var queueLimitBytes: Int?

  /// The largest message that can be posted or received, in bytes. A peer that sends a larger one ends the channel. Only a
  /// ``PortReader`` that reads in place, which takes no memory, is given whatever one record of the ring holds.
  public var messageLimitBytes: Int

  /// What a thread does before it sleeps in ``MessagePort/receive(timeout:)`` and the blocking calls of ``PortReader``
  /// and ``PortWriter``.
  public var spinPolicy: SpinPolicy

  /// Where the channel's memory comes from; `nil`: memfd, or what the environment variable `MESSAGEPORTS_BACKING` says
  /// (`memfd` or `posixSharedMemory`).
  public var backing: MemoryBacking?

  /// Whether to accept ports in memory that is not sealed, with which their other end can kill this process. Needed for
  /// `MemoryBacking.posixSharedMemory`; on by default if the environment chooses that.
  public var acceptsUnsealedMemory: Bool

  /// Whether the channel's memory is there before it is touched: for those who want no page fault later.
  ///
  /// It holds for memory that this process makes for the channel (as soon as one of the ports leaves, or is split; when it connects, or
  /// starts a worker), and for this process alone. If it cannot be had, what would make the memory throws, and has had no
  /// effect: ``PortError/lockLimitExceeded(byteCount:limit:)`` or ``ConnectionError/lockLimitExceeded(byteCount:limit:)``, if the
  /// reason is `RLIMIT_MEMLOCK`. For a port that has arrived from another process, or a connection that another process has
  /// asked for, this has no effect: see ``MessagePort/makeResident(_:)``.
  ///
  /// What a lane grows into, up to 1 MiB, is treated likewise as far as the system lets; beyond that, not at all. Mapping, and
  /// growing, then takes longer: some 0.3 to 3 µs for each page. Choose a ``laneCapacityBytes`` with which it need not grow.
  public var residency: MemoryResidency

  /// Options with these values; the properties describe them and their defaults. Whoever uses them checks them, and
  /// throws ``PortError/invalidOption(_:)`` if one is out of range.
  ///
  /// - Parameters:
  ///   - laneCapacityBytes: 0 for the least, or up to 1 GiB; see ``laneCapacityBytes``.
  ///   - queueLimitBytes: not negative; see ``queueLimitBytes``.
  ///   - messageLimitBytes: 0 to 16 GiB; see ``messageLimitBytes``.
  ///   - spinPolicy: see ``spinPolicy``.
  ///   - backing: see ``backing``.
  ///   - acceptsUnsealedMemory: `nil`: only if the environment chooses POSIX shared memory; see
  ///     ``acceptsUnsealedMemory``.
  ///   - residency: see ``residency``.
  public init(
    laneCapacityBytes: Int = 0, queueLimitBytes: Int? = nil, messageLimitBytes: Int = 1 << 30,
    spinPolicy: SpinPolicy = .adaptive, backing: MemoryBacking? = nil, acceptsUnsealedMemory: Bool? = nil,
    residency: MemoryResidency = .onDemand
  ) {
    self.laneCapacityBytes = laneCapacityBytes
    self.queueLimitBytes = queueLimitBytes
    self.messageLimitBytes = messageLimitBytes
    self.spinPolicy = spinPolicy
    self.backing = backing
    self.acceptsUnsealedMemory = acceptsUnsealedMemory ?? (Environment.backing == .posixSharedMemory)
    self.residency = residency
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
///
/// Spinning is a way of waiting: whoever spins hears of everything that whoever sleeps is told.
public enum SpinPolicy: Sendable, Hashable {
  /// Sleep at once.
  case never
  /// Spin for as long as that has recently been worth it: 20 µs at first, twice as long, up to 50 µs, after a wait of at
  /// most 100 µs, and half as long, down to 1 µs, after a longer one. Each port, half and loop learns for itself.
  ///
  /// Where the process may use one processor only, sleep at once: whom it waits for could not run meanwhile.
  case adaptive
  /// Spin for so long, then sleep. Where the process may use one processor only, sleep at once.
  case duration(Duration)
  /// Never sleep, and make no system call either while there is nothing to collect from the kernel: what remains is in the article
  /// "Steady latency". Where the process may use one processor only, let others run between two looks.
  case always
}
