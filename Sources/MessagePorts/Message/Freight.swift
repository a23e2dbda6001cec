/// What a message carries besides ports, in the order in which it travels: descriptors, and behind them buffers.
struct Freight: Sendable {
  var descriptors: [Descriptor] = []
  var buffers: [MessageBuffer] = []

  var isEmpty: Bool { descriptors.isEmpty && buffers.isEmpty }
  /// How many descriptors the kernel passes for it.
  var count: Int { descriptors.count + buffers.count }

  static func += (freight: inout Freight, other: Freight) {
    freight.descriptors += other.descriptors
    freight.buffers += other.buffers
  }

  /// Throws what is wrong with the lists.
  func check() throws(PortError) {
    if isEmpty { return }
    var seen = Set<ObjectIdentifier>()
    for (index, descriptor) in descriptors.enumerated() {
      if let problem = descriptor.problem { throw .invalidDescriptor(index: index, problem) }
      guard seen.insert(ObjectIdentifier(descriptor)).inserted else {
        throw .invalidDescriptor(index: index, .isListedTwice)
      }
    }
    for (index, buffer) in buffers.enumerated() {
      if let problem = buffer.handle.problem { throw .invalidBuffer(index: index, problem) }
      guard seen.insert(ObjectIdentifier(buffer.handle)).inserted else {
        throw .invalidBuffer(index: index, .isListedTwice)
      }
    }
  }

  // MARK: A post

  /// One of it that is being posted already, as a question to ask again. `nil`: none is.
  var departing: (@Sendable () -> Bool)? {
    if let descriptor = descriptors.first(where: \.isDeparting) { return { descriptor.isDeparting } }
    if let handle = buffers.lazy.map(\.handle).first(where: \.isDeparting) { return { handle.isDeparting } }
    return nil
  }

  /// All of it is being posted from now on, until ``stay()``, ``moveOn()`` or ``leave()``; or, on an error, none.
  func depart() throws(PortError) {
    for (index, descriptor) in descriptors.enumerated() where !descriptor.depart() {
      for earlier in descriptors[..<index] { earlier.stay() }
      throw .invalidDescriptor(index: index, descriptor.problem ?? .isInUse)
    }
    for (index, buffer) in buffers.enumerated() where !buffer.handle.depart() {
      for earlier in buffers[..<index] { earlier.handle.stay() }
      for earlier in descriptors { earlier.stay() }
      throw .invalidBuffer(index: index, buffer.handle.problem ?? .isClosed)
    }
  }

  /// It was not posted after all. What was, has nothing any more, and does not mind.
  func stay() {
    for descriptor in descriptors { descriptor.stay() }
    for buffer in buffers { buffer.handle.stay() }
  }

  /// It is about to be sent to another process, which can give back what was lent as soon as it has it.
  func setOut() { for buffer in buffers { buffer.handle.loan?.leave() } }

  /// It was not sent after all.
  func turnBack() { for buffer in buffers { buffer.handle.loan?.stay() } }

  /// It goes over to other objects in this process.
  func moveOn() -> Freight {
    Freight(
      descriptors: descriptors.map { $0.moveOn() },
      buffers: buffers.compactMap { $0.handle.moveOn().map { MessageBuffer($0) } })
  }

  /// This process's numbers for it, of what is departing, or waits in a queue.
  var numbers: [CInt] { descriptors.map(\.number) + buffers.map(\.handle.descriptor) }

  /// It was sent to another process. What is left of it here is to be let go of without a lock.
  func leave() -> SentFreight {
    SentFreight(descriptors: descriptors.compactMap { $0.leave() }, memory: buffers.compactMap { $0.handle.moveOn() })
  }
}

/// What is left here of things that another process has by now.
struct SentFreight: Sendable {
  fileprivate var descriptors: [SentDescriptor] = []
  /// Mappings and descriptors, unless there are copies.
  fileprivate var memory: [BufferMemory] = []

  /// Not with a lock held.
  consuming func letGo() { for descriptor in descriptors { descriptor.close() } }
}
