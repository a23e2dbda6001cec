/// A type whose values are nothing but their bytes: it has no padding, and every pattern of its bytes is a value.
///
/// So posting one sends nothing that the program did not put into it, and whatever a peer has written can be read as one.
/// `Bool`, enums, pointers and optionals are no such types, and no SIMD vector is one here. Their values are posted by an
/// encoder; or by the calls marked `unsafe`, where both ends can be trusted.
///
/// The integers, `Float16`, `Float`, `Double`, and arrays of a fixed number of such values conform. A type of your own
/// lists its fields, and is checked against what the compiler has made of it:
///
/// ```swift
/// struct Sample: PlainValue {
///   var time: UInt64
///   var value: Double
///   static let layout = PlainLayout<Sample>(\.time, \.value)
/// }
/// ```
///
/// Both processes must agree on the type's layout, and on the order of bytes: they run on one machine.
public protocol PlainValue: BitwiseCopyable {
  /// The proof. It is made once, when the type is first used, if this is a `static let`.
  static var layout: PlainLayout<Self> { get }
}

/// The proof that a type is a ``PlainValue``: it cannot be had for one that is not.
public struct PlainLayout<Value: BitwiseCopyable>: Sendable {
  /// Checks that the fields are stored ones, cover every byte of the value, and are plain values themselves.
  ///
  /// Traps if not, and says which byte is nobody's, or which field is not stored: that is a mistake in the type.
  ///
  /// - Parameter field: each stored property of the value, in any order.
  /// - Complexity: O(*n* log *n*) in the number of fields. Allocates.
  public init<each Field: PlainValue>(_ field: repeat KeyPath<Value, each Field>) {
    if let problem = Self.problem(repeat each field) {
      preconditionFailure("\(Value.self) is no plain value: \(problem)")
    }
  }

  /// For types of the standard library, of which it is known.
  @inlinable init(standard: Void) {}

  /// What is wrong with the list of fields; `nil`: nothing.
  static func problem<each Field: PlainValue>(_ field: repeat KeyPath<Value, each Field>) -> String? {
    var bytes: [Range<Int>] = []
    for field in repeat each field {
      guard let range = Self.bytes(of: field) else { return "\(field) is not stored" }
      bytes.append(range)
    }
    var covered = 0
    for range in bytes.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if range.lowerBound > covered { return "byte \(covered) belongs to no field: padding, or a field not listed" }
      if range.lowerBound < covered { return "byte \(range.lowerBound) belongs to two of the fields" }
      covered = range.upperBound
    }
    guard covered == MemoryLayout<Value>.size else {
      return "byte \(covered) belongs to no field: padding, or a field not listed"
    }
    return nil
  }

  private static func bytes<Field: PlainValue>(of field: KeyPath<Value, Field>) -> Range<Int>? {
    // A field's own type is checked the first time that it is met, too.
    _ = Field.layout
    return MemoryLayout<Value>.offset(of: field).map { $0..<$0 + MemoryLayout<Field>.size }
  }
}

extension Int8: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<Int8> { PlainLayout(standard: ()) }
}
extension Int16: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<Int16> { PlainLayout(standard: ()) }
}
extension Int32: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<Int32> { PlainLayout(standard: ()) }
}
extension Int64: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<Int64> { PlainLayout(standard: ()) }
}
extension Int128: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<Int128> { PlainLayout(standard: ()) }
}
extension Int: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<Int> { PlainLayout(standard: ()) }
}
extension UInt8: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<UInt8> { PlainLayout(standard: ()) }
}
extension UInt16: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<UInt16> { PlainLayout(standard: ()) }
}
extension UInt32: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<UInt32> { PlainLayout(standard: ()) }
}
extension UInt64: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<UInt64> { PlainLayout(standard: ()) }
}
extension UInt128: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<UInt128> { PlainLayout(standard: ()) }
}
extension UInt: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<UInt> { PlainLayout(standard: ()) }
}
extension Float16: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<Float16> { PlainLayout(standard: ()) }
}
extension Float: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<Float> { PlainLayout(standard: ()) }
}
extension Double: PlainValue {
  /// Every pattern of bits is a value.
  @inlinable public static var layout: PlainLayout<Double> { PlainLayout(standard: ()) }
}

extension InlineArray: PlainValue where Element: PlainValue {
  /// Traps if there is padding between the elements.
  @inlinable public static var layout: PlainLayout<Self> {
    precondition(
      MemoryLayout<Element>.stride == MemoryLayout<Element>.size, "no plain value: padding between elements")
    _ = Element.layout
    return PlainLayout(standard: ())
  }
}
