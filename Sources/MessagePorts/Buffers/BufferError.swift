/// Why something could not be done with a buffer. Unless a case says otherwise, nothing has changed.
public enum BufferError: Error, Sendable, Hashable {
  /// It was closed; or this process was forked off after it was made.
  case closed
  /// It was posted: the message's receiver has it. Or a ``SharedBuffer`` was frozen or shared: what came of that has the memory.
  case gone
  /// A buffer has at least one byte, and no more than the system's memory.
  case invalidByteCount(Int)
  /// The buffer is larger than the caller wants to have.
  case tooLarge(byteCount: Int, limit: Int)
  /// These bytes are not all within the buffer.
  case outOfBounds(offset: Int, byteCount: Int, bufferByteCount: Int)
  /// Freezing found somebody who writes: an operation of the kernel's that this process has begun, such as a read by io_uring
  /// into the buffer. Once that is over, it can be frozen.
  case isBeingWritten
  /// The operating system refused something: descriptors, mappings, memory.
  case system(SystemError)
  /// A pool has at least one buffer.
  case invalidCapacity(Int)
  /// What was to be given back to a pool is no buffer of its own, or none that is out.
  case notLent
  /// The waiting task was cancelled.
  case cancelled
}

extension BufferError {
  /// Throws unless the range lies in a buffer of that size.
  static func check(_ offset: Int, _ byteCount: Int, in bufferByteCount: Int) throws(BufferError) {
    // In an order in which nothing overflows.
    guard offset >= 0, byteCount >= 0, byteCount <= bufferByteCount, offset <= bufferByteCount - byteCount else {
      throw .outOfBounds(offset: offset, byteCount: byteCount, bufferByteCount: bufferByteCount)
    }
  }
}

/// Why a buffer may not travel with a message.
public enum BufferProblem: Sendable, Hashable {
  /// It is in the list twice. (Copies of it may be.)
  case isListedTwice
  /// It was closed before.
  case isClosed
  /// It was posted before.
  case isPosted
}
