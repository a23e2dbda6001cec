/// The two halves of a port, until somebody takes them. ``MessagePort/split()`` returns them.
///
/// The halves cannot be copied; this is an object, which can be stored, returned, and given to the threads that will
/// take a half each. Halves that nobody has taken close with the object.
public final class PortHalves: Sendable {
  private let writer: Lock<PortWriter?>
  private let reader: Lock<PortReader?>

  /// Holds two halves, of one port or of two, until somebody takes them: to hand them on, or to keep them open. Only
  /// ``MessagePort/init(joining:_:)`` makes them a port again.
  public init(_ writer: consuming PortWriter, _ reader: consuming PortReader) {
    self.writer = Lock(writer)
    self.reader = Lock(reader)
  }

  /// Gives the writer to the caller. From any thread, but only once: a second call is a bug of the program, and ends it.
  public func takeWriter() -> PortWriter {
    guard let taken = writer.withLock({ $0.take() }) else { fatalError("the writer of these halves was taken before") }
    return taken
  }

  /// Gives the reader to the caller. From any thread, but only once: a second call is a bug of the program, and ends it.
  public func takeReader() -> PortReader {
    guard let taken = reader.withLock({ $0.take() }) else { fatalError("the reader of these halves was taken before") }
    return taken
  }
}
