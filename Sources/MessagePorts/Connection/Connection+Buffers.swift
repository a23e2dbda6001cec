// Named messages that carry buffers.

extension Connection {
  /// Posts an encoded value under a name, with buffers; see ``MessagePort/postMessage(_:transfer:descriptors:buffers:)``.
  ///
  /// - Throws: ``PortError/invalidOption(_:)`` for a name that is too long, and what a port throws.
  public func postMessage<Value: Encodable>(
    _ name: String, _ value: Value, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [],
    buffers: [MessageBuffer]
  ) throws(PortError) {
    let freight = Freight(descriptors: descriptors, buffers: buffers)
    try port.core.check(transfer: ports, freight)
    let bytes = try MessageCoders.encode(value)
    try unsafe post(name, bytes.span.bytes, ports, freight)
  }

  /// Posts a message under a name that has no content but what it carries; see
  /// ``MessagePort/postMessage(_:transfer:descriptors:buffers:)``.
  public func postMessage(
    _ name: String, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [], buffers: [MessageBuffer]
  ) throws(PortError) {
    try post(name, RawSpan(), ports, Freight(descriptors: descriptors, buffers: buffers))
  }

  /// Posts bytes under a name, with buffers; see ``MessagePort/postMessage(_:transfer:descriptors:buffers:)``.
  public func postMessage(
    _ name: String, bytes: RawSpan, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [],
    buffers: [MessageBuffer]
  ) throws(PortError) {
    try post(name, bytes, ports, Freight(descriptors: descriptors, buffers: buffers))
  }

  /// Posts bytes under a name, with buffers; see ``MessagePort/postMessage(_:transfer:descriptors:buffers:)``.
  public func postMessage(
    _ name: String, bytes: [UInt8], transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [],
    buffers: [MessageBuffer]
  ) throws(PortError) {
    try unsafe post(name, bytes.span.bytes, ports, Freight(descriptors: descriptors, buffers: buffers))
  }

  /// Posts a plain value under a name, with buffers; see ``MessagePort/postMessage(bitwise:transfer:)``.
  public func postMessage<Value: PlainValue>(
    _ name: String, bitwise value: Value, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [],
    buffers: [MessageBuffer]
  ) throws(PortError) {
    _ = Value.layout
    try unsafe withUnsafeBytes(of: value) { (bytes) throws(PortError) in
      try unsafe post(name, bytes.bytes, ports, Freight(descriptors: descriptors, buffers: buffers))
    }
  }
}

extension ConnectionEvent {
  /// See ``MessageEvent/buffers``.
  public var buffers: [MessageBuffer] { message.buffers }
}
