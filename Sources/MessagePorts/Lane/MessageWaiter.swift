/// A task that waits for the next message: `nil` means that there will be none.
struct MessageWaiter: Sendable {
  let id: UInt64
  let resumption: Resumption<MessageEvent?>
}
