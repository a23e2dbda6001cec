/// A port that the library keeps alive. As long as there is one, its loop is not idle.
final class KeptPort: Sendable {
  /// The port, or the connection made of it.
  let owner: any AnyObject & Sendable
  let loop: EventLoop

  /// `nil`: the loop was stopped, and will never call a handler.
  init?(_ core: PortCore, of owner: any AnyObject & Sendable, on loop: EventLoop) {
    self.owner = owner
    self.loop = loop
    guard loop.keep(core, for: self) else { return nil }
  }

  deinit { loop.giveUp(self) }
}
