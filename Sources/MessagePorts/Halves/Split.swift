import SharedRing

extension MessagePort {
  /// Takes the port apart into the half that writes and the half that reads, for one thread each, with nothing between
  /// them and the ring.
  ///
  /// The port is detached, as by a transfer; its handlers are released. Messages that wait go to the reader. The
  /// channel becomes shared if it was local. ``init(joining:_:)`` puts the halves together again. The end of the
  /// channel closes when both halves are gone, or the object that is returned goes away with those that nobody took.
  ///
  /// The first call in a process registers it for `membarrier`, which takes milliseconds if there are several threads.
  ///
  /// - Throws: ``PortError/closed``, ``PortError/detached``, ``PortError/system(_:)``; the port is as before.
  /// - Complexity: O(bytes that wait) if the channel was local: it then makes shared memory and sockets.
  public func split() throws(PortError) -> PortHalves {
    let core = self.core
    var taken = try core.split()
    while taken == nil {
      TransferLock.wait { core.isInTransfer }
      taken = try core.split()
    }
    guard var halves = taken.take() else { preconditionFailure("nothing to wait for") }
    crashPoint(.splitTaken)
    core.takeApart(because: .detached)
    halves.producer.isRegisteredForMembarrier = Membarrier.isRegistered
    let end = SplitEnd(channel: halves.channel, end: core.end, options: core.options, loop: core.loop)
    return halves.bound(to: end)
  }

  /// Puts the two halves of a port together again. What the reader has not read waits in the port; it is not started.
  ///
  /// - Throws: ``PortError/halvesDiffer`` if they are not of one port; then both are gone, and their channels close.
  ///   ``PortError/closed`` in a process that was forked off after the split.
  public convenience init(joining writer: consuming PortWriter, _ reader: consuming PortReader) throws(PortError) {
    try writer.end.checkProcess()
    guard writer.end === reader.end else { throw .halvesDiffer }
    let end = writer.end
    self.init(PortCore(joining: BareHalves(writer, reader), of: end))
    crashPoint(.joined)
    end.handOver()
    crashPoint(.joinHandedOver)
  }
}

extension PortCore {
  /// Takes the halves of the port, which is detached then. `nil`: a transfer is under way, and decides what becomes of it.
  fileprivate func split() throws(PortError) -> BareHalves? {
    try TransferLock.exclusively { () throws(PortError) -> BareHalves? in
      try lifecycle.checkUsable()
      if isInTransfer { return nil }
      do throws(ShareError) { try share() } catch { throw error.withoutIndex }
      guard lifecycle.change(from: .open, to: .detached) == nil else {
        try lifecycle.checkUsable()
        throw .detached
      }
      crashPoint(.splitDetached)
      return takeHalves()
    }
  }
}
