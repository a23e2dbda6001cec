// Named messages that carry descriptors.

extension Connection {
  /// Posts an encoded value under a name, with descriptors; see ``MessagePort/postMessage(_:transfer:descriptors:)``.
  ///
  /// - Throws: ``PortError/invalidOption(_:)`` for a name that is too long, and what a port throws.
  public func postMessage<Value: Encodable>(
    _ name: String, _ value: Value, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try port.core.check(transfer: ports, Freight(descriptors: descriptors))
    let bytes = try MessageCoders.encode(value)
    try unsafe post(name, bytes.span.bytes, ports, Freight(descriptors: descriptors))
  }

  /// Posts a message under a name that has no content but what it carries; see
  /// ``MessagePort/postMessage(_:transfer:descriptors:)``.
  public func postMessage(
    _ name: String, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try post(name, RawSpan(), ports, Freight(descriptors: descriptors))
  }

  /// Posts bytes under a name, with descriptors; see ``MessagePort/postMessage(_:transfer:descriptors:)``.
  public func postMessage(
    _ name: String, bytes: RawSpan, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try post(name, bytes, ports, Freight(descriptors: descriptors))
  }

  /// Posts bytes under a name, with descriptors; see ``MessagePort/postMessage(_:transfer:descriptors:)``.
  public func postMessage(
    _ name: String, bytes: [UInt8], transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try unsafe post(name, bytes.span.bytes, ports, Freight(descriptors: descriptors))
  }

  /// Posts a plain value under a name, with descriptors; see ``MessagePort/postMessage(bitwise:transfer:)``.
  public func postMessage<Value: PlainValue>(
    _ name: String, bitwise value: Value, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    _ = Value.layout
    try unsafe withUnsafeBytes(of: value) { (bytes) throws(PortError) in
      try unsafe post(name, bytes.bytes, ports, Freight(descriptors: descriptors))
    }
  }
}

extension ConnectionEvent {
  /// See ``MessageEvent/descriptors``.
  public var descriptors: [Descriptor] { message.descriptors }
}
