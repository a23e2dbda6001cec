/// A task that waits for the next message: `nil` means that there will be none.
struct MessageWaiter: Sendable {
  let id: UInt64
  let resumption: Resumption<MessageEvent?>
}

/// A task that waits until the other end is closed and everything was received.
struct EndWaiter: Sendable {
  let id: UInt64
  let resumption: Resumption<Result<CloseReason, PortError>>
}
