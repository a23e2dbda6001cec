public import Foundation
public import MessagePorts

extension MessagePort {
  /// Posts bytes; see `postMessage(bytes:transfer:)`.
  ///
  /// - Complexity: O(bytes + ports).
  public func postMessage(bytes data: Data, transfer ports: [MessagePort] = []) throws(PortError) {
    try postMessage(bytes: data.bytes, transfer: ports)
  }

  /// Posts bytes, with descriptors; see `postMessage(bytes:transfer:descriptors:)`.
  ///
  /// - Complexity: O(bytes + ports + descriptors).
  public func postMessage(
    bytes data: Data, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try postMessage(bytes: data.bytes, transfer: ports, descriptors: descriptors)
  }
}

extension Connection {
  /// Posts bytes under a name; see `postMessage(_:bytes:transfer:)`.
  ///
  /// - Complexity: O(bytes + ports).
  public func postMessage(_ name: String, bytes data: Data, transfer ports: [MessagePort] = []) throws(PortError) {
    try postMessage(name, bytes: data.bytes, transfer: ports)
  }

  /// Posts bytes under a name, with descriptors; see `postMessage(_:bytes:transfer:descriptors:)`.
  ///
  /// - Complexity: O(bytes + ports + descriptors).
  public func postMessage(
    _ name: String, bytes data: Data, transfer ports: [MessagePort] = [], descriptors: [Descriptor]
  ) throws(PortError) {
    try postMessage(name, bytes: data.bytes, transfer: ports, descriptors: descriptors)
  }
}

extension MessageEvent {
  /// The message's bytes, copied.
  ///
  /// - Complexity: O(bytes).
  public var data: Data { withBytes { Data(copying: $0) } }
}

extension ConnectionEvent {
  /// The message's bytes, copied.
  ///
  /// - Complexity: O(bytes).
  public var data: Data { message.data }
}

extension Data {
  init(copying bytes: RawSpan) { self = unsafe bytes.withUnsafeBytes { unsafe Data($0) } }
}
