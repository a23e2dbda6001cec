extension Connection {
  /// Gives the messages of a port names, requests and streams. Its other end has to be made a connection as well.
  ///
  /// The port is the connection's from then on: it must not be used for anything else. Transferring it ends the connection
  /// here. Messages that wait at the port wait for the connection's first handler.
  ///
  /// - Parameter port: open, with no handlers.
  public convenience init(over port: MessagePort) { self.init(port: port, peer: nil) }
}
