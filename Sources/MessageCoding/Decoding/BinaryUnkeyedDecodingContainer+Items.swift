// Going from item to item: values with a tag each, and numbers in runs, look the same from outside.
extension BinaryUnkeyedDecodingContainer {
  /// Decodes the next item. After an error, it is still the next one.
  @inline(__always)
  mutating func decode<T>(
    _ type: T.Type, _ body: (DecodingSession, BinaryValue, DecodingStep) throws -> T
  ) throws -> T {
    let item = try next(type)
    let result = try body(session, item, place)
    try advance(over: item)
    return result
  }

  /// Decodes the next item if it is in a run of that type, and not the last one of run or container; nil otherwise.
  /// This is for types like `Data`, which decodes itself one byte at a time.
  @inline(__always)
  mutating func nextInRun<Number: PackedScalar>(_ type: Number.Type) -> Number? {
    guard runRemaining > 1, runCode == Number.scalarCode, currentIndex &+ 1 < itemCount else { return nil }
    let number = session.state.reader.number(at: offset, as: type)
    (offset, currentIndex) = (offset &+ MemoryLayout<Number>.size, currentIndex &+ 1)
    runRemaining &-= 1
    return number
  }

  /// The next item, which may be invalid.
  @inline(__always)
  mutating func next(_ type: Any.Type) throws -> BinaryValue {
    if currentIndex >= itemCount { throw atEnd(type) }
    if runRemaining == 0 {
      let value = state.reader.value(at: offset, before: end)
      if value.tag != Tag.invalid || !beginRun() {
        state.pass(UInt32(truncatingIfNeeded: offset), value)
        return value
      }
    }
    let byteCount = ScalarCode.byteCount(runCode) ?? 0
    return BinaryValue(tag: Tag.scalar | runCode, start: offset, end: offset &+ byteCount)
  }

  /// Goes past the next item. At the last one, finds out whether there is anything behind it.
  @inline(__always)
  mutating func advance(over item: BinaryValue) throws {
    offset = Int(item.end)
    currentIndex &+= 1
    if runRemaining > 0 { runRemaining &-= 1 }
    if currentIndex == itemCount && (offset != end || runRemaining > 0) { throw excess() }
  }

  /// Enters the run at the offset, if there is one and it fits.
  private mutating func beginRun() -> Bool {
    guard let run = state.reader.run(at: offset, before: end), run.count <= itemCount - currentIndex else {
      return false
    }
    if offset == Int(state.frontier) { state.frontier = UInt32(truncatingIfNeeded: run.end) }
    (runCode, runRemaining, offset) = (run.code, run.count, run.start)
    return true
  }

  /// The place of the next item.
  @inline(__always)
  private var place: DecodingStep {
    DecodingStep(parent: step, key: .index(UInt32(truncatingIfNeeded: currentIndex)))
  }

  @inline(never)
  private func atEnd(_ type: Any.Type) -> DecodingError {
    .valueNotFound(
      type, .init(codingPath: state.path(place), debugDescription: "Unkeyed container is at end."))
  }

  @inline(never)
  private func excess() -> DecodingError {
    state.corrupted("An unkeyed container has more items than its count.", DecodingStep(parent: step, key: .none))
  }
}
