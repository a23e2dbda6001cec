import SharedRing

// Messages that carry descriptors. Calls of their own, so that those without pay nothing for them.

extension MessagePort {
  /// Posts an encoded value, with descriptors; for the rest see `postMessage(_:transfer:)`.
  ///
  /// The descriptors move with the message, as ports do: once this returns they are gone from here, also if the message is
  /// discarded; to keep a number for the same file, list a ``Descriptor/duplicate()``. They close if nobody receives the
  /// message. The receiver finds them, in this order, in ``MessageEvent/descriptors``. Within a process, the numbers stay
  /// what they are, and the kernel is not asked.
  ///
  /// - Parameters:
  ///   - value: encoded with ``MessageCoders/current``, after the lists were checked.
  ///   - ports: move with the message.
  ///   - descriptors: move with the message.
  /// - Throws: ``PortError``; ports and descriptors are then still the caller's. Of a list of descriptors:
  ///   ``PortError/tooManyDescriptors(count:limit:)``, ``PortError/invalidDescriptor(index:_:)``, and
  ///   ``PortError/transferQueueFull(_:)`` as for ports. ``PortError/system(_:)`` for what the kernel does not pass on, such
  ///   as an io_uring.
  /// - Complexity: O(bytes + ports + descriptors), and what the coder takes. To another process, some system calls.
  public func postMessage<Value: Encodable>(
    _ value: Value, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try core.check(transfer: ports, Freight(descriptors: descriptors))
    let bytes = try MessageCoders.encode(value)
    try unsafe core.post(bytes.span.bytes, ports, Freight(descriptors: descriptors))
  }

  /// Posts bytes, with descriptors; for the rest see ``postMessage(_:transfer:descriptors:)``.
  public func postMessage(
    bytes: RawSpan, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try core.post(bytes, ports, Freight(descriptors: descriptors))
  }

  /// Posts bytes, with descriptors; for the rest see ``postMessage(_:transfer:descriptors:)``.
  public func postMessage(
    bytes: [UInt8], transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try unsafe core.post(bytes.span.bytes, ports, Freight(descriptors: descriptors))
  }

  /// Posts a plain value, with descriptors; see ``postMessage(bitwise:transfer:)`` and
  /// ``postMessage(_:transfer:descriptors:)``.
  public func postMessage<Value: PlainValue>(
    bitwise value: Value, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    _ = Value.layout
    try unsafe postMessage(unsafeBitwise: value, transfer: ports, descriptors: descriptors)
  }

  /// Posts a value of any type that is copied bit by bit, with descriptors; see ``postMessage(unsafeBitwise:transfer:)``
  /// and ``postMessage(_:transfer:descriptors:)``.
  @unsafe
  public func postMessage<Value: BitwiseCopyable>(
    unsafeBitwise value: Value, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try unsafe withUnsafeBytes(of: value) { (bytes) throws(PortError) in
      try unsafe core.post(bytes.bytes, ports, Freight(descriptors: descriptors))
    }
  }

  /// Posts what `fill` writes, with descriptors; see ``postMessage(byteCount:transfer:_:)`` and
  /// ``postMessage(_:transfer:descriptors:)``.
  public func postMessage(
    byteCount: Int, transfer ports: [MessagePort] = [], descriptors: [Descriptor],
    _ fill: (inout OutputRawSpan) throws -> Void
  ) throws(PortError) {
    try core.check(transfer: ports, Freight(descriptors: descriptors))
    let bytes = try filled(byteCount, by: fill)
    try bytes.whole.withBytes { (span) throws(PortError) in
      try core.post(span.extracting(first: bytes.written), ports, Freight(descriptors: descriptors))
    }
  }

  /// Posts a message that has no content but what it carries; see ``postMessage(_:transfer:descriptors:)``.
  public func postMessage(transfer ports: [MessagePort] = [], descriptors: [Descriptor]) throws(PortError) {
    try postMessage(bytes: RawSpan(), transfer: ports, descriptors: descriptors)
  }
}

extension PortCore {
  /// The way in for messages with descriptors or buffers.
  func post(_ bytes: RawSpan, _ ports: [MessagePort], _ freight: Freight) throws(PortError) {
    if ports.isEmpty, freight.isEmpty { try post(bytes) } else { try postWithCargo(bytes, ports, freight) }
  }
}
