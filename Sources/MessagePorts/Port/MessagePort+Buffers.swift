// Messages that carry buffers. Calls of their own, so that those without pay nothing for them.

extension MessagePort {
  /// Posts an encoded value, with buffers; for the rest see `postMessage(_:transfer:)`.
  ///
  /// The buffers move with the message, as ports do: once this returns they are gone from here, also if the message is
  /// discarded; to keep one, list a copy. Bytes of a frozen one that somebody has stay readable. A buffer's memory does not
  /// move, nor is it looked at: it costs as much to post as a descriptor, of which a message carries as many with its buffers
  /// as ``maximumDescriptorsPerMessage`` says. The receiver finds the buffers, in this order, in ``MessageEvent/buffers``.
  ///
  /// - Parameters:
  ///   - value: encoded with ``MessageCoders/current``, after the lists were checked.
  ///   - ports: move with the message.
  ///   - descriptors: move with the message.
  ///   - buffers: move with the message.
  /// - Throws: ``PortError``; what was listed is then still the caller's. Of a list of buffers:
  ///   ``PortError/tooManyDescriptors(count:limit:)``, ``PortError/invalidBuffer(index:_:)``, and
  ///   ``PortError/transferQueueFull(_:)`` as for ports.
  /// - Complexity: O(bytes + ports + descriptors + buffers), and what the coder takes. To another process, some system calls.
  public func postMessage<Value: Encodable>(
    _ value: Value, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [], buffers: [MessageBuffer]
  ) throws(PortError) {
    let freight = Freight(descriptors: descriptors, buffers: buffers)
    try core.check(transfer: ports, freight)
    let bytes = try MessageCoders.encode(value)
    try unsafe core.post(bytes.span.bytes, ports, freight)
  }

  /// Posts bytes, with buffers; for the rest see ``postMessage(_:transfer:descriptors:buffers:)``.
  public func postMessage(
    bytes: RawSpan, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [], buffers: [MessageBuffer]
  ) throws(PortError) {
    try core.post(bytes, ports, Freight(descriptors: descriptors, buffers: buffers))
  }

  /// Posts bytes, with buffers; for the rest see ``postMessage(_:transfer:descriptors:buffers:)``.
  public func postMessage(
    bytes: [UInt8], transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [], buffers: [MessageBuffer]
  ) throws(PortError) {
    try unsafe core.post(bytes.span.bytes, ports, Freight(descriptors: descriptors, buffers: buffers))
  }

  /// Posts a plain value, with buffers; see ``postMessage(bitwise:transfer:)`` and
  /// ``postMessage(_:transfer:descriptors:buffers:)``.
  public func postMessage<Value: PlainValue>(
    bitwise value: Value, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [], buffers: [MessageBuffer]
  ) throws(PortError) {
    _ = Value.layout
    try unsafe withUnsafeBytes(of: value) { (bytes) throws(PortError) in
      try unsafe core.post(bytes.bytes, ports, Freight(descriptors: descriptors, buffers: buffers))
    }
  }

  /// Posts a message that has no content but what it carries; see ``postMessage(_:transfer:descriptors:buffers:)``.
  public func postMessage(
    transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [], buffers: [MessageBuffer]
  ) throws(PortError) {
    try core.post(RawSpan(), ports, Freight(descriptors: descriptors, buffers: buffers))
  }
}
