#if Macros
  import SwiftSyntax
  import SwiftSyntaxBuilder

  /// The keys that a type declares itself, such as its `CodingKeys`, in their order.
  struct CodingKeyNames {
    struct Key {
      /// The name of the case, which is also that of what it is the key of.
      let name: String
      /// A literal: what is written into a message.
      let text: String
      let node: TokenSyntax
    }

    let keys: [Key]

    /// Nil if there are none of that name among the members.
    init?(_ name: String, in members: MemberBlockItemListSyntax) throws {
      for member in members {
        guard let named = member.decl.asProtocol((any NamedDeclSyntax).self), named.name.plain == name else { continue }
        guard let declaration = member.decl.as(EnumDeclSyntax.self) else {
          throw named.name.complaint("'\(name)' has to be an enum that is declared here, for its cases to be seen")
        }
        keys = try Self.keys(of: declaration)
        return
      }
      return nil
    }

    private static func keys(of declaration: EnumDeclSyntax) throws -> [Key] {
      var keys: [Key] = []
      for member in declaration.memberBlock.members {
        if let condition = member.decl.as(IfConfigDeclSyntax.self) { throw condition.conditionalMembers }
        if let variable = member.decl.as(VariableDeclSyntax.self), variable.names.contains("stringValue") {
          throw variable.complaint("keys that are computed cannot be seen: give the cases raw values instead")
        }
        for element in member.decl.as(EnumCaseDeclSyntax.self)?.elements ?? [] {
          // The raw value may be a number, with which the key is still the name.
          let text = element.rawValue?.value.as(StringLiteralExprSyntax.self)?.trimmedDescription
          keys.append(Key(name: element.name.plain, text: text ?? element.name.plain.literal, node: element.name))
        }
      }
      return keys
    }
  }

  extension CodingKeyNames? {
    /// The key of a member, a literal: of a type that has no keys of its own, its name; otherwise the one there, if any.
    func key(of name: String) -> String? {
      guard let self else { return name.literal }
      return self.keys.first { $0.name == name }?.text
    }
  }

  extension VariableDeclSyntax {
    var names: [String] { bindings.flatMap { $0.pattern.names.map(\.plain) } }
  }

  extension PatternSyntax {
    /// The variables of a pattern, each as it is written.
    var names: [TokenSyntax] {
      if let name = self.as(IdentifierPatternSyntax.self)?.identifier { return [name] }
      return self.as(TuplePatternSyntax.self)?.elements.flatMap(\.pattern.names) ?? []
    }
  }

  extension TokenSyntax {
    /// The name without backticks.
    var plain: String { identifier?.name ?? text }
  }

  extension String {
    /// A literal of this string.
    var literal: String { StringLiteralExprSyntax(content: self).description }
  }

  extension IfConfigDeclSyntax {
    /// The error for members that are not always there.
    var conditionalMembers: any Error {
      complaint("what is in '#if' cannot be derived: a macro does not know whether it is compiled")
    }

    /// Whether there are properties, cases or types in it, which may matter.
    var mayMatter: Bool {
      clauses.contains { clause in
        guard case .decls(let members) = clause.elements else { return false }
        return members.contains { member in
          member.decl.is(EnumCaseDeclSyntax.self) || member.decl.is(EnumDeclSyntax.self)
            || member.decl.as(VariableDeclSyntax.self)?.isStored == true
            || member.decl.as(IfConfigDeclSyntax.self)?.mayMatter == true
        }
      }
    }
  }
#endif
