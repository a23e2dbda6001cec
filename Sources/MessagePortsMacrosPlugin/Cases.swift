#if Macros
  import SwiftSyntax

  /// The cases of an enum, and the values that come with them.
  struct Cases {
    private struct Case {
      let name: TokenSyntax
      let key: String
      let values: [Value]
    }

    private struct Value {
      /// The label with a colon, or nothing.
      let label: String
      /// Nil if it is left out of the keys, and has a default.
      let key: String?
      let type: TypeSyntax
    }

    private let cases: [Case]
    private let hasRawValues: Bool

    init(of declaration: EnumDeclSyntax) throws {
      // What the first one is, if it is none of these, the compiler finds out.
      let first = declaration.inheritanceClause?.inheritedTypes.first?.type.trimmedDescription
      hasRawValues = first.map(Self.rawTypes.contains) ?? false
      let members = declaration.memberBlock.members
      for case let condition? in members.map({ $0.decl.as(IfConfigDeclSyntax.self) }) where condition.mayMatter {
        throw condition.conditionalMembers
      }
      if hasRawValues {
        cases = []
        return
      }
      let keys = try CodingKeyNames("CodingKeys", in: members)
      cases = try members.flatMap { $0.decl.as(EnumCaseDeclSyntax.self).map { Array($0.elements) } ?? [] }
        .map { element in
          guard let key = keys.key(of: element.name.plain) else {
            throw element.name.complaint("a case that 'CodingKeys' leaves out cannot be derived: writing cannot fail")
          }
          return Case(name: element.name, key: key, values: try Self.values(of: element, in: members))
        }
      if cases.isEmpty { throw declaration.name.complaint("an enum without cases has no values to be derived") }
      for key in keys?.keys ?? [] where !cases.contains(where: { $0.name.plain == key.name }) {
        throw key.node.complaint("there is no case '\(key.name)' that this is the key of")
      }
    }

    /// The types in which a parameter of a generic type may occur.
    var types: [TypeSyntax] { cases.flatMap { $0.values.map(\.type) } }

    /// Nil if the default implementation does, which writes and reads raw values.
    var body: Body? {
      if hasRawValues { return nil }
      var (write, read) = (["switch self {"], [String]())
      for one in cases {
        write += writing(one)
      }
      write.append("}")
      let keys = cases.map(\.key).joined(separator: ", ")
      read.append("switch try entries.findOnly(of: [\(keys)], for: Self.self) {")
      for (index, one) in cases.enumerated() {
        // Other indices are not returned.
        read.append(index == cases.count - 1 ? "default:" : "case \(index):")
        read += reading(one)
      }
      read.append("}")
      return Body(write: write, read: read)
    }

    private func writing(_ one: Case) -> [String] {
      let name = one.name.trimmedDescription
      let patterns = one.values.enumerated().map { index, value in value.key == nil ? "_" : "let value\(index)" }
      var lines = ["case .\(name)" + (patterns.isEmpty ? "" : "(\(patterns.joined(separator: ", ")))") + ":"]
      let isEmpty = one.values.allSatisfy { $0.key == nil }
      lines.append("  entries.writeEntries(forKey: \(one.key)) { \(isEmpty ? "_" : "entries") in")
      for (index, value) in one.values.enumerated() {
        if let key = value.key { lines.append("    entries.write(value\(index), forKey: \(key))") }
      }
      return lines + ["  }"]
    }

    private func reading(_ one: Case) -> [String] {
      let values = one.values.compactMap { value in
        value.key.map { "\(value.label)try entries.read(forKey: \($0))" }
      }
      let arguments = one.values.isEmpty ? "" : "(\(values.joined(separator: ", ")))"
      return [
        "  self = try entries.readEntries(forKey: \(one.key)) { \(values.isEmpty ? "_" : "entries") in",
        "    Self.\(one.name.trimmedDescription)\(arguments)",
        "  }",
      ]
    }

    private static func values(
      of element: EnumCaseElementSyntax, in members: MemberBlockItemListSyntax
    ) throws -> [Value] {
      let name = element.name.plain
      let keys = try CodingKeyNames(name.prefix(1).uppercased() + name.dropFirst() + "CodingKeys", in: members)
      let parameters = element.parameterClause.map { Array($0.parameters) } ?? []
      var found: Set<String> = []
      let values = try parameters.enumerated().map { index, parameter in
        let label = parameter.firstName.flatMap { $0.tokenKind == .wildcard ? nil : $0 }
        let name = label?.plain ?? "_\(index)"
        found.insert(name)
        let key = keys.key(of: name)
        if key == nil, parameter.defaultValue == nil {
          throw parameter.complaint("a value without a key needs a default")
        }
        return Value(label: label.map { "\($0.trimmedDescription): " } ?? "", key: key, type: parameter.type)
      }
      for key in keys?.keys ?? [] where !found.contains(key.name) {
        throw key.node.complaint("there is no value '\(key.name)' of the case that this is the key of")
      }
      return values
    }

    private static let rawTypes: Set<String> = [
      "String", "Int", "Int8", "Int16", "Int32", "Int64", "UInt", "UInt8", "UInt16", "UInt32", "UInt64", "Double",
      "Float",
    ]
  }
#endif
