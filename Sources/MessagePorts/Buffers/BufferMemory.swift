import SharedRing

/// A buffer's memory in this process, and the one mapping of it, made when somebody first looks. Freed with the last reference:
/// a buffer that is its copy, a message, whoever looks at its bytes.
final class BufferMemory: Sendable {
  // Before the file: what is mapped is given back first, so that freeing much memory is left to those who close the file.
  private let bytes: Lock<BufferBytes?>
  let file: BufferFile
  /// Whose it is, if it was lent. Last: it tells of its end.
  let loan: BufferLoan?

  init(_ file: BufferFile, mapped: BufferBytes? = nil, loan: BufferLoan? = nil) {
    self.file = file
    bytes = Lock(mapped)
    self.loan = loan
  }

  func map() throws(BufferError) -> BufferBytes {
    try bytes.withLock { (bytes) throws(BufferError) in
      if let bytes { return bytes }
      do throws(SystemError) {
        let mapped = try file.map()
        bytes = mapped
        return mapped
      } catch {
        throw .system(error)
      }
    }
  }
}
