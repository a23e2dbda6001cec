import SharedRing

/// What came with a message besides its bytes. Dropping it closes what nobody has taken out.
final class MessageCargo: Sendable {
  let ports: [MessagePort]
  let freight: Freight

  init(_ ports: [MessagePort], _ freight: Freight) {
    self.ports = ports
    self.freight = freight
  }

  /// `nil`: nothing.
  static func of(_ ports: [MessagePort], _ freight: Freight) -> MessageCargo? {
    ports.isEmpty && freight.isEmpty ? nil : MessageCargo(ports, freight)
  }
}

extension CargoCount {
  /// How many descriptors the kernel has to pass for it, at most: a port takes two, and the parts of messages that ports
  /// have received are in one file for all of them.
  var mostDescriptors: Int { 2 * ports + descriptors + (ports > 0 ? 1 : 0) }

  /// Whether the kernel passes it at once.
  var fitsInPacket: Bool { mostDescriptors <= MessagePort.maximumDescriptorsPerMessage }
}
