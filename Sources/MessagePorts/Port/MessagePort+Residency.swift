import SharedRing

extension MessagePort {
  /// Makes sure that this process's mapping of the channel's memory is there before it is touched, whoever has made the channel.
  ///
  /// For ports that have arrived. How much memory there is was up to their maker, so nothing happens to it here unless the program says so
  /// for this port: the header and both lanes, whose size the maker chose, up to 2 GiB; and from now on the segments that lanes
  /// go on in, one of up to 1 MiB for each, as far as the system lets. More is never locked on behalf of the other end.
  ///
  /// What there is already stays: asking for less has no effect. Nor has this call if both ends are in this process: then there is no such
  /// memory yet, and ``ChannelOptions/residency`` says what becomes of it. It ends with the mapping, when the port closes or leaves.
  ///
  /// - Throws: ``PortError/lockLimitExceeded(byteCount:limit:)``; ``PortError/system(_:)`` if there is not so much memory;
  ///   ``PortError/closed``, ``PortError/detached``. The port, and what is locked, are as before.
  /// - Complexity: O(pages), some 0.3 to 3 µs each. Whoever posts or receives at this port meanwhile may wait for that.
  public func makeResident(_ residency: MemoryResidency) throws(PortError) { try core.makeResident(residency) }
}

extension Connection {
  /// The same for a connection; see ``MessagePort/makeResident(_:)``.
  ///
  /// - Throws: as that.
  public func makeResident(_ residency: MemoryResidency) throws(PortError) { try port.makeResident(residency) }
}

extension PortCore {
  fileprivate func makeResident(_ residency: MemoryResidency) throws(PortError) {
    guard let channel = ifUsable({ $0.receiving.transport.channel }) else {
      try lifecycle.checkUsable()
      throw .closed
    }
    guard let memory = channel?.memory, residency > memory.residency else { return }
    let before = memory.residency
    do throws(MemoryError) {
      try memory.makeResident(residency)
      do throws(MemoryError) {
        // From here on, whatever is mapped is mapped so. What was mapped before is found under the lanes' locks.
        try outgoing.state.withLock { (lane) throws(MemoryError) in
          try lane.sending.producer.makeSegmentResident(residency)
        }
        try incoming.state.withLock { (lane) throws(MemoryError) in
          try lane.receiving.records.consumer.makeSegmentResident(residency)
        }
      } catch {
        memory.makeResidentNoMore(than: before)
        outgoing.state.withLock { $0.sending.producer.unlockSegment() }
        throw error
      }
    } catch {
      throw PortError(error)
    }
  }
}
