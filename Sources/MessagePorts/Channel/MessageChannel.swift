/// Two entangled ports: what is posted on one is received on the other, in both directions.
///
/// Making a channel needs nothing from the kernel and never blocks: as long as both ports are in this process, their
/// messages wait in ordinary memory. When one is transferred, the channel moves into memory that both processes map.
///
/// Source of the behaviour: the HTML Standard's `MessageChannel`.
public struct MessageChannel: Sendable {
  /// One end: what is posted here is received at ``port2``.
  public let port1: MessagePort
  /// The other end: what is posted here is received at ``port1``.
  public let port2: MessagePort

  /// Makes a channel. Takes well under a microsecond; enters the kernel only if the heap has to grow.
  ///
  /// - Parameters:
  ///   - options: of both ends, wherever they go.
  ///   - loop: runs the handlers of both ports, until ``MessagePort/setEventLoop(_:)`` says otherwise.
  /// - Throws: ``PortError/invalidOption(_:)``; then nothing was made.
  public init(options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default) throws(PortError) {
    try options.validate()
    let lanes = (Lane(options), Lane(options))
    port1 = MessagePort(PortCore(outgoing: lanes.0, incoming: lanes.1, end: 0, options: options, loop: loop))
    port2 = MessagePort(PortCore(outgoing: lanes.1, incoming: lanes.0, end: 1, options: options, loop: loop))
  }
}
