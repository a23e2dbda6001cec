import SharedRing

/// A buffer as it travels in a message: what may be done with it, the kernel has been asked, and nobody can change.
///
/// ```swift
/// func show(_ frame: consuming SharedBuffer, to viewer: MessagePort) throws {
///   try viewer.postMessage("frame", buffers: [.frozen(try frame.freeze())])
/// }
///
/// func pixels(of event: MessageEvent) throws -> FrozenBytes? {
///   guard case .frozen(let frame)? = event.buffers.first else { return nil }
///   return try frame.bytes(upTo: 64 << 20)
/// }
/// ```
public enum MessageBuffer: Sendable {
  /// Its bytes never change any more.
  case frozen(FrozenBuffer)
  /// Whoever has it can write it at any time.
  case shared(UntrustedBuffer)

  /// How large it is. The kernel's word, not the sender's.
  public var byteCount: Int { handle.byteCount }

  /// Lets go of the buffer, whichever it is.
  public func close() { handle.close() }

  /// What has arrived, or moves on.
  init(_ memory: BufferMemory) {
    self =
      switch memory.file.kind {
      case .frozen: .frozen(FrozenBuffer(memory))
      case .shared: .shared(UntrustedBuffer(memory))
      }
  }

  var handle: BufferHandle {
    switch self {
    case .frozen(let buffer): buffer.handle
    case .shared(let buffer): buffer.handle
    }
  }
}
