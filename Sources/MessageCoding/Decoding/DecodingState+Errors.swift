extension DecodingState {
  func corrupted(_ description: String, _ place: DecodingStep) -> DecodingError {
    .dataCorrupted(.init(codingPath: path(place), debugDescription: description))
  }

  /// The error for an invalid value.
  func corrupted(_ place: DecodingStep) -> DecodingError {
    corrupted(Self.malformed, place)
  }

  /// The error for a value that cannot be decoded as that type.
  ///
  /// The description does not repeat the type: turning it into text takes many times as long as everything else, and
  /// some values try one type after another.
  @inline(never)
  func mismatch(_ type: Any.Type, _ value: BinaryValue, at place: DecodingStep) -> DecodingError {
    switch value.tag {
    case Tag.invalid:
      return corrupted(place)
    case Tag.null:
      return .valueNotFound(type, .init(codingPath: path(place), debugDescription: "Found nil instead of a value."))
    default:
      if value.isReserved {
        return corrupted("A value has a form that this version of the format does not have.", place)
      }
      return .typeMismatch(type, .init(codingPath: path(place), debugDescription: value.descriptionForErrors))
    }
  }
}

extension BinaryValue {
  var descriptionForErrors: String {
    switch tag {
    case Tag.keyed: "Found a keyed container instead."
    case Tag.unkeyed: "Found an unkeyed container instead."
    case Tag.false, Tag.true: "Found a Boolean instead."
    default: isString ? "Found a string instead." : "Found a number instead."
    }
  }
}
