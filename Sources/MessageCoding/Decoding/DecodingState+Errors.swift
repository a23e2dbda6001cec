extension DecodingState {
  func corrupted(_ description: String, _ place: DecodingStep) -> DecodingError {
    .dataCorrupted(.init(codingPath: path(place), debugDescription: description))
  }

  /// The error for a value that is not one.
  func corrupted(_ place: DecodingStep) -> DecodingError {
    corrupted("A value has a reserved tag, or does not fit into its container.", place)
  }

  /// The error for a value that cannot be decoded as that type.
  @inline(never)
  func mismatch(_ type: Any.Type, _ value: BinaryValue, at place: DecodingStep) -> DecodingError {
    switch value.tag {
    case Tag.invalid:
      return corrupted(place)
    case Tag.null:
      return .valueNotFound(
        type, .init(codingPath: path(place), debugDescription: "Expected \(type) but found nil instead."))
    default:
      return .typeMismatch(
        type,
        .init(codingPath: path(place), debugDescription: "Expected \(type) but found \(kind(of: value)) instead."))
    }
  }

  private func kind(of value: BinaryValue) -> String {
    switch value.tag {
    case Tag.keyed: "a keyed container"
    case Tag.unkeyed: "an unkeyed container"
    case Tag.false, Tag.true: "a Boolean"
    default: value.isString ? "a string" : "a number"
    }
  }
}
