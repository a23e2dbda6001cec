/// The bytes of the message that is decoded, and where in them decoding is.
///
/// Nothing is parsed in advance. A ``BinaryValue`` is read when somebody asks for it, and skipped by its length
/// otherwise.
///
/// The properties that each value uses are exempt from run-time checks for overlapping accesses, which would take a
/// fifth of the time: each access is a single operation on data of the standard library, during which none of our code
/// runs.
final class DecodingState {
  @safe @exclusivity(unchecked) private(set) var reader = ByteReader()
  /// The memory of the reader, if it is not borrowed.
  private var copy: ByteCopy?

  /// How the values that are being decoded were reached: a stack, like the calls of `init(from:)`.
  @safe @exclusivity(unchecked) var steps = Stack<DecodingStep>()

  @safe @exclusivity(unchecked) var pathCache = CodingPathCache()

  /// Where the key behind the last one that was found is, and in which container. Keys are usually decoded in the order
  /// in which they were encoded, and then this is where the next one is.
  @safe @exclusivity(unchecked) var expectedKeyOffset: UInt32 = 0
  @safe @exclusivity(unchecked) var expectedKeyContainer: UInt32 = .max

  /// See `DecodingState+Keys.swift`.
  var remainingSearchSteps = 0
  @safe @exclusivity(unchecked) var keyIndexes: [UInt32: KeyIndex] = [:]

  /// See `StructureCheck.swift`.
  @safe @exclusivity(unchecked) var frontier: UInt32 = 1
  @safe @exclusivity(unchecked) var openContainers = Stack<OpenContainer>()

  private(set) var maximumDepth = 0
  private(set) var maximumKeyBytes = 0
  /// The longest key that is looked for where it is expected.
  @safe @exclusivity(unchecked) private(set) var shortKeyLimit = 0

  /// Begins a message.
  func open(_ reader: ByteReader, _ limits: BinaryMessageCoder.Limits) {
    self.reader = reader
    (maximumDepth, maximumKeyBytes) = (limits.depth, limits.keyBytes)
    shortKeyLimit = min(maximumKeyBytes, Int(Layout.longKeyMark) - 1)
    frontier = 1
    remainingSearchSteps = 1024 + 8 * reader.count
  }

  /// Forgets the message.
  func close() {
    reader = ByteReader()
    steps.removeAll()
    pathCache.clear()
    expectedKeyContainer = .max
    if !keyIndexes.isEmpty { keyIndexes = [:] }
  }

  /// Makes the state independent of the bytes that it was opened with.
  func copyBytes() {
    let copy = ByteCopy(reader)
    reader = copy.reader
    self.copy = copy
  }
}
