#if Macros
  import SwiftSyntax
  import SwiftSyntaxBuilder
  import SwiftSyntaxMacros

  /// Derives `MessageValue`: an extension with the code that one would write by hand.
  ///
  /// The keys are those of the `Codable` conformance that the compiler derives. What a macro cannot see, such as the type
  /// of a property or a raw value that is declared elsewhere, is left to the compiler: overloads in `MessageCoding` choose.
  public struct MessageValueMacro: ExtensionMacro {
    public static func expansion(
      of node: AttributeSyntax, attachedTo declaration: some DeclGroupSyntax,
      providingExtensionsOf type: some TypeSyntaxProtocol, conformingTo protocols: [TypeSyntax],
      in context: some MacroExpansionContext
    ) throws -> [ExtensionDeclSyntax] {
      try refuseHandwritten(declaration.memberBlock.members)
      let body: Body?, types: [TypeSyntax]
      if let declaration = declaration.as(StructDeclSyntax.self) {
        let fields = try Fields(of: declaration)
        (body, types) = (fields.body, fields.types)
      } else if let declaration = declaration.as(EnumDeclSyntax.self) {
        let cases = try Cases(of: declaration)
        (body, types) = (cases.body, cases.types)
      } else {
        throw node.complaint(
          "'@MessageValue' is for structs and enums: the values of other types are more than what is in them")
      }

      // What the type says itself, that it conforms to, is not said twice.
      let missing = protocols.compactMap { conformances[$0.lastName] }
      guard !missing.isEmpty || body != nil else { return [] }
      let conditions =
        missing.isEmpty ? [] : Generics(of: declaration, in: context.lexicalContext).conditions(for: types)
      let head =
        "extension \(type.trimmedDescription)"
        + (missing.isEmpty ? "" : ": \(missing.joined(separator: ", "))")
        + (conditions.isEmpty ? "" : " where \(conditions.joined(separator: ", "))")
      let members = body?.members(access: access(of: declaration, in: context.lexicalContext)) ?? ""
      return [try ExtensionDeclSyntax("\(raw: head) {\(raw: members)}")]
    }

    private static let conformances = [
      "MessageValue": "MessagePorts.MessageValue", "Encodable": "Swift.Encodable", "Decodable": "Swift.Decodable",
    ]

    /// Whoever encodes by hand has a form of his own, which cannot be seen here.
    private static func refuseHandwritten(_ members: MemberBlockItemListSyntax) throws {
      for member in members {
        if let function = member.decl.as(FunctionDeclSyntax.self), function.name.text == "encode",
          function.signature.takes("Encoder", as: "to")
        {
          throw function.name.complaint(
            "'encode(to:)' is written by hand: write 'write(to:)' and 'init(from:)' of 'MessageValue' by hand as well")
        }
        if let initializer = member.decl.as(InitializerDeclSyntax.self),
          initializer.signature.takes("Decoder", as: "from")
        {
          throw initializer.initKeyword.complaint(
            "'init(from:)' is written by hand: write 'write(to:)' and 'init(from:)' of 'MessageValue' by hand as well")
        }
      }
    }

    /// As accessible as the type.
    private static func access(of declaration: some DeclGroupSyntax, in context: [Syntax]) -> String {
      // In an extension, its modifier counts for the types that have none.
      let outer = context.first?.as(ExtensionDeclSyntax.self)?.modifiers ?? []
      for modifiers in [declaration.modifiers, outer] {
        for modifier in modifiers {
          switch modifier.name.tokenKind {
          case .keyword(.public): return "public "
          case .keyword(.package): return "package "
          case .keyword(.private), .keyword(.fileprivate): return "fileprivate "
          case .keyword(.internal): return ""
          default: continue
          }
        }
      }
      return ""
    }
  }

  extension FunctionSignatureSyntax {
    /// Whether the only parameter has that label, and a type of that name.
    fileprivate func takes(_ name: String, as label: String) -> Bool {
      guard let parameter = parameterClause.parameters.first, parameterClause.parameters.count == 1 else {
        return false
      }
      return parameter.firstName.text == label && parameter.type.description.contains(name)
    }
  }

  extension TypeSyntax {
    /// The name without those of the modules or types around it.
    fileprivate var lastName: String {
      self.as(MemberTypeSyntax.self)?.name.text ?? self.as(IdentifierTypeSyntax.self)?.name.text ?? trimmedDescription
    }
  }
#endif
