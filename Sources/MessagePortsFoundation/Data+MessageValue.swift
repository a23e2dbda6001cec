public import Foundation
public import MessagePorts

extension Data: MessageValue {
  /// Writes the bytes: they are copied once.
  public func write(to writer: inout ValueWriter) { writer.write(bytes: bytes) }

  /// Reads bytes: they are copied once.
  ///
  /// - Throws: `DecodingError` if there are none.
  public init(from reader: inout ValueReader) throws { self = try reader.readBytes { Data(copying: $0) } }
}
