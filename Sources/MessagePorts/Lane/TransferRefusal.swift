/// What the last message with ports, descriptors or buffers was refused for, if the kernel queued no more. A value; the lane's
/// lock guards it.
enum TransferRefusal: Sendable, Equatable {
  /// It was not refused.
  case none
  /// The socket was full, when the receiver had released so much of the lane. Each packet has a record there, which is released
  /// right after the packet was taken: so the receiver tells of it as it tells of room.
  case socketFull(released: UInt64)
  /// It was for something of which nobody tells when it is over, such as packets of other channels.
  case untold

  /// Whether the receiver has got on since.
  func isOver(released: UInt64) -> Bool {
    switch self {
    case .none: true
    case .socketFull(let before): released > before
    case .untold: false
    }
  }
}
