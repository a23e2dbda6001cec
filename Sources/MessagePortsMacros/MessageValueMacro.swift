#if Macros
  import MessagePorts

  /// Derives `MessageValue`, and `Codable` with it: the value writes and reads itself, in the same form as by `Codable`.
  ///
  /// <!-- from Tests/Macros/Tests/DerivedTests/Article.swift -->
  /// ```swift
  /// @MessageValue
  /// struct Order { var id: Int, name: String, note: String? }
  /// ```
  ///
  /// For structs and enums. Keys, missing and additional entries, cases with values, and raw values are as in the
  /// conformance to `Codable` that the compiler derives; `CodingKeys` count if they are an enum among the type's own
  /// members (and so do the keys of a case's values). The types of all that has a key are a `MessageValue`; parameters of
  /// a generic type that occur in them have to be, for it to be one. The file imports `MessagePorts` as well.
  ///
  /// Not for classes, for local types (where Swift allows no such macro), for properties with a wrapper, nor beside an
  /// `encode(to:)` or `init(from:)` written by hand. Those may have a `MessageValue` conformance that is written by hand.
  @attached(
    extension, conformances: MessageValue, Encodable, Decodable, names: named(write(to:)), named(init(from:)))
  public macro MessageValue() = #externalMacro(module: "MessagePortsMacrosPlugin", type: "MessageValueMacro")
#endif
