/// One part of a coding path: which part of a value another value is.
///
/// Three words are written per value; the keys of a path are read from the message only when someone asks for them.
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

  static let message = DecodingStep(parent: .max, key: .none)
}

extension DecodingState {
  /// The keys that lead to a place.
  ///
  /// The steps of a decoder that is kept until after its `init(from:)` may have been replaced by others; the path is of
  /// no use then, but harmless.
  func path(_ place: DecodingStep) -> [any CodingKey] {
    var path: [any CodingKey] = []
    var step = place
    while true {
      switch step.key {
      case .none: break
      case .index(let index): path.append(BinaryCodingKey(intValue: Int(index)))
      case .missingSuper: path.append(BinaryCodingKey.super)
      case .entry(let offset):
        if let key = reader.key(at: Int(offset), before: reader.count),
          let text = reader.string(from: key.start, to: key.end)
        {
          path.append(BinaryCodingKey(stringValue: text))
        }
      }
      // Parents come before their parts, also among steps that were replaced: this ends.
      guard step.parent < steps.count, path.count <= steps.count else { return path.reversed() }
      step = steps[Int(step.parent)]
    }
  }

  /// The keys that lead to the value of a decoder.
  func path(_ step: UInt32) -> [any CodingKey] {
    path(DecodingStep(parent: step, key: .none))
  }
}
