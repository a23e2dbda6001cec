/// What one worker is to do in one round.
struct TortureOrders: Codable, Sendable {
  /// Counts all orders.
  var number = 0
  /// The ports that come with the orders.
  var received: [PortID] = []
  /// Channels to make here.
  var channels: [UInt32] = []
  /// Ports to take messages from, which have waited so far.
  var started: [PortID] = []
  var closed: [PortID] = []
  /// Ports of channels that are over.
  var forgotten: [PortID] = []
  var stops: [TortureStop] = []
  /// Everything is closed: there may be no more descriptors, mappings and threads than at the start.
  var isLast = false
}
