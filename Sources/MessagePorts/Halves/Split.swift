import CSupport
import SharedRing

extension MessagePort {
  /// Takes the port apart into the half that writes and the half that reads, for one thread each: the ring with nothing
  /// in between.
  ///
  /// The port is detached, as by a transfer; its handlers are released. Messages that wait go to the reader. The channel
  /// becomes shared if it was local. ``init(joining:_:)`` puts the halves together again. The end of the channel closes
  /// when both halves are gone.
  ///
  /// The first call in a process registers it for `membarrier`, which takes milliseconds if there are several threads.
  ///
  /// - Throws: ``PortError/closed``, ``PortError/detached``, ``PortError/system(_:)``; the port is as before.
  public func split() throws(PortError) -> (PortWriter, PortReader) {
    let core = self.core
    var halves = try TransferLock.exclusively { () throws(PortError) -> PortHalves in
      try core.lifecycle.checkUsable()
      do throws(ShareError) { try core.share() } catch { throw error.withoutIndex }
      guard core.lifecycle.change(from: .open, to: .detached) == nil else {
        try core.lifecycle.checkUsable()
        throw .detached
      }
      crashPoint(.splitDetached)
      return core.takeHalves()
    }
    crashPoint(.splitTaken)
    core.takeApart(because: .detached)
    halves.producer.isRegisteredForMembarrier = Membarrier.isRegistered
    let end = SplitEnd(channel: halves.channel, end: core.end, options: core.options, loop: core.loop)
    return PortHalves.wrap(consume halves, end)
  }

  /// Puts the two halves of a port together again. What the reader has not read waits in the port; it is not started.
  ///
  /// - Throws: ``PortError/halvesDiffer`` if they are not of one port; both are gone then, and their channels close.
  public convenience init(joining writer: consuming PortWriter, _ reader: consuming PortReader) throws(PortError) {
    guard writer.end === reader.end else { throw .halvesDiffer }
    let end = writer.end
    self.init(PortCore(joining: PortHalves(writer, reader), of: end))
    crashPoint(.joined)
    end.handOver()
    crashPoint(.joinHandedOver)
  }
}
