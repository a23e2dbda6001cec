import SharedRing
import Synchronization

/// Where the elements of a stream are sent. One of them at a time may be used by any number of tasks.
///
/// Thread safety: any thread may use any member. One task's elements arrive in the order in which it sent them.
public final class StreamWriter: Sendable {
  /// The request that asks for the stream: its name, its connection, and the ports that came with it. `nil` on the side that
  /// has asked.
  public let context: RequestContext?
  private let port: MessagePort
  private let state = Lock(State.open)
  /// Relaxed: all that matters is that none comes twice soon.
  private let lastElement = Atomic<UInt32>(0)

  private enum State: Sendable {
    case open
    /// ``finish()`` was called, and the lane was full.
    case owesEnd
    case over
  }

  init(_ port: MessagePort, _ context: RequestContext?) {
    self.port = port
    self.context = context
    // Makes the loop listen for the other end's death.
    port.onClose = { _ in }
  }

  /// Sends an element; returns when it is on its way.
  ///
  /// Waits while the reader lags: while more than 512 KiB would be unread, each element counting with some bytes more than
  /// it has. An element that is larger than 64 KiB goes in parts.
  ///
  /// - Parameters:
  ///   - element: encoded with ``MessageCoders/current``.
  ///   - ports: move with the element; the reader has them from ``MessageStream/events``. If the kernel queues no more for now,
  ///     this waits for that, too.
  ///   - descriptors: likewise.
  ///   - buffers: likewise.
  /// - Throws: ``PortError/peerClosed(_:)`` if the reader has left, or its process has ended; ``PortError/closed`` after
  ///   ``finish()`` and when the handler has returned; ``PortError/cancelled``; ``PortError/encodingFailed(_:)``, then
  ///   nothing was sent; ``PortError/messageTooLarge(byteCount:limit:)``; ``PortError/system(_:)``; what a post throws for
  ///   what goes along. Then all of that is still the caller's, and the reader is given no such element.
  /// - Complexity: O(bytes + what goes along), and what the coder takes.
  public func send<Element: Encodable>(
    _ element: Element, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [],
    buffers: [MessageBuffer] = []
  ) async throws(PortError) {
    guard !ports.isEmpty || !descriptors.isEmpty || !buffers.isEmpty else {
      return try await send(encoded: MessageCoders.encode(element), nil)
    }
    let freight = Freight(descriptors: descriptors, buffers: buffers)
    try port.core.check(transfer: ports, freight)
    try await send(encoded: MessageCoders.encode(element), .of(ports, freight))
  }

  /// - Parameter cargo: goes with the last part, so that it stays if that is not sent.
  private func send(encoded bytes: [UInt8], _ cargo: MessageCargo?) async throws(PortError) {
    let options = port.core.options
    guard bytes.count <= options.messageLimitBytes else {
      throw .messageTooLarge(byteCount: bytes.count, limit: options.messageLimitBytes)
    }
    let largest = Self.largestBody(options)
    if bytes.count <= largest { return try await post(unsafe StreamRecord.make(.element, bytes.span.bytes), cargo) }
    let element = lastElement.wrappingAdd(1, ordering: .relaxed).newValue
    var offset = 0
    while offset < bytes.count {
      let end = min(offset + largest, bytes.count)
      let part = unsafe StreamRecord.make(
        end == bytes.count ? .lastPart : .part, element: element, bytes.span.extracting(offset..<end).bytes)
      try await post(part, end == bytes.count ? cargo : nil)
      offset = end
    }
  }

  /// A record of that size fits into an empty lane, whatever was agreed.
  private static func largestBody(_ options: ChannelOptions) -> Int {
    let limit = min((options.queueLimitBytes ?? .max) / 2, options.messageLimitBytes) - 32
    return max(1, min(StreamRecord.largestBody, limit))
  }

  private func post(_ record: [UInt8], _ cargo: MessageCargo?) async throws(PortError) {
    while true {
      guard case .open = state.withLock({ $0 }) else { throw .closed }
      if let reason = port.core.knownPeerClose { throw .peerClosed(reason) }
      if Task.isCancelled { throw .cancelled }
      do throws(PortError) {
        try port.postMessage(bytes: record, with: cargo)
        return crashPoint(.elementPosted)
      } catch {
        switch error {
        case .queueFull: try await port.waitForSpace(byteCount: record.count)
        case .transferQueueFull: try await port.waitForTransferSpace()
        default: throw error
        }
      }
    }
  }

  /// Says that there will be no more elements, as the end of the handler does. Never waits; may be called any number of times.
  public func finish() {
    let isFirst = state.withLock { state in
      guard case .open = state else { return false }
      state = .over
      return true
    }
    guard isFirst else { return }
    do throws(PortError) {
      try port.postMessage(bytes: StreamRecord.make(.end, RawSpan()))
      crashPoint(.streamEndPosted)
    } catch {
      if case .queueFull = error { state.withLock { $0 = .owesEnd } }
    }
  }

  /// The same, and waits until it was said.
  func finishSaying() async {
    finish()
    let owesEnd = state.withLock { state in
      defer { state = .over }
      if case .owesEnd = state { return true }
      return false
    }
    if owesEnd { await say(StreamRecord.make(.end, RawSpan())) }
  }

  /// Says why there will be no more.
  func fail(_ error: any Error) async {
    let isFirst = state.withLock { state in
      defer { state = .over }
      if case .open = state { return true }
      return false
    }
    guard isFirst else { return }
    let failure = (try? BinaryMessageCoder().encode(RequestFailure(thrown: error))) ?? []
    await say(unsafe StreamRecord.make(.failure, failure.span.bytes))
  }

  private func say(_ record: [UInt8]) async {
    while true {
      do throws(PortError) { return try port.postMessage(bytes: record) } catch {
        guard case .queueFull = error else { return }
      }
      do throws(PortError) { try await port.waitForSpace(byteCount: record.count) } catch { return }
    }
  }

  /// The handler has returned.
  func close() {
    state.withLock { $0 = .over }
    port.close()
  }
}
