// Many messages of one size at once, at the price of copying their bytes.

extension PortWriter {
  /// Writes as many of `values` as there is room for, in order, each a message of its own, as ``tryWrite(bitwise:)``
  /// would. The reader is woken once.
  ///
  /// If the size of the values is a multiple of eight and equals their stride, many of them share one header, and cost
  /// hardly more than copying their bytes; others cost as much as in a ``batch(_:)``. They can be read in any way,
  /// however they were written.
  ///
  /// - Returns: how many were written; fewer than there are, perhaps 0, if the ring is full now.
  /// - Throws: as ``tryWrite(_:)``; nothing was written then.
  /// - Complexity: O(bytes); one system call if the reader sleeps, none otherwise. Never blocks.
  @inlinable
  public mutating func tryWrite<Value: PlainValue>(contentsOf values: Span<Value>) throws(PortError) -> Int {
    _ = Value.layout
    return try unsafe tryWrite(unsafeContentsOf: values)
  }

  /// The same for values of any type that is copied bit by bit.
  ///
  /// Unsafe: padding within them is written, whatever of this process's memory is there. Otherwise as
  /// ``tryWrite(contentsOf:)``.
  @inlinable
  @unsafe
  public mutating func tryWrite<Value: BitwiseCopyable>(
    unsafeContentsOf values: Span<Value>
  ) throws(PortError) -> Int {
    let written = try unsafe put(unsafeContentsOf: values)
    if written > 0 { try wakeReaderIfAsleep() }
    return written
  }
}
