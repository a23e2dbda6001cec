/// One part of a coding path: which part of a value another value is.
///
/// Writing one is cheap. The keys of a path are read from the message only when somebody asks for them.
struct DecodingStep: BitwiseCopyable {
  enum Key: BitwiseCopyable {
    /// The message, or the same value again.
    case none
    /// The offset of the key.
    case entry(UInt32)
    /// The index in an unkeyed container.
    case index(UInt32)
    /// The key of a `superDecoder` that is not in the message.
    case missingSuper
  }

  /// The index of the step to the value around this one, or `UInt32.max`.
  let parent: UInt32
  let key: Key
  /// How many keys of the last path lead here, if that was noted, see `CodingPathCache`.
  var pathCount: UInt16 = 0

  static let message = DecodingStep(parent: .max, key: .none)
}

/// The last path that was made.
///
/// Some types try one thing after another, and throw away an error for each. Each error has a whole path, in an array.
/// To keep that from taking longer the deeper a value is, only the keys that differ from those of the last path are
/// made again: in place, if nobody has kept that path.
struct CodingPathCache {
  var keys: [any CodingKey] = []
  /// For each key, the index of the step that has it.
  var steps: [UInt32] = []

  mutating func clear() {
    if !keys.isEmpty { (keys, steps) = ([], []) }
  }
}

extension DecodingState {
  /// The keys that lead to a place.
  ///
  /// The steps of a decoder that outlives its `init(from:)` may have been replaced by others; then the path is useless,
  /// but harmless.
  func path(_ place: DecodingStep) -> [any CodingKey] {
    // From the inside out, to the first step that the last path leads to.
    var (last, lastIndex) = (place, UInt32.max)
    var new: [(key: any CodingKey, step: UInt32)] = []
    var known = 0
    while true {
      if let key = codingKey(last.key) { new.append((key, lastIndex)) }
      // Parents come before their parts, also among steps that were replaced, so this comes to an end.
      guard last.parent < steps.count, last.parent < lastIndex else { break }
      (lastIndex, last) = (last.parent, steps[Int(last.parent)])
      let count = Int(last.pathCount)
      if count > 0, count <= pathCache.steps.count, pathCache.steps[count - 1] == lastIndex {
        known = count
        break
      }
    }
    pathCache.keys.removeSubrange(known...)
    pathCache.steps.removeSubrange(known...)
    for (key, step) in new.reversed() {
      pathCache.keys.append(key)
      pathCache.steps.append(step)
      if step != .max { steps[Int(step)].pathCount = UInt16(clamping: pathCache.keys.count) }
    }
    return pathCache.keys
  }

  private func codingKey(_ key: DecodingStep.Key) -> (any CodingKey)? {
    switch key {
    case .none: return nil
    case .index(let index): return BinaryCodingKey(intValue: Int(index))
    case .missingSuper: return BinaryCodingKey.super
    case .entry(let offset):
      guard let key = reader.key(at: Int(offset), before: reader.count) else { return nil }
      return reader.string(from: key.start, to: key.end).map(BinaryCodingKey.init(stringValue:))
    }
  }

  /// The keys that lead to the value of a decoder.
  func path(_ step: UInt32) -> [any CodingKey] {
    path(DecodingStep(parent: step, key: .none))
  }
}
