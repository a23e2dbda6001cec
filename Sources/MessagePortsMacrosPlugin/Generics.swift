#if Macros
  import SwiftSyntax

  /// The parameters of a generic type.
  struct Generics {
    private let parameters: Set<String>

    /// - Parameter context: What is around the type; parameters of outer types are also its own.
    init(of declaration: some DeclGroupSyntax, in context: [Syntax]) {
      let clauses = ([Syntax(declaration)] + context).map { node in
        node.asProtocol((any WithGenericParametersSyntax).self)?.genericParameterClause
      }
      parameters = Set(
        clauses.flatMap { clause in
          clause?.parameters.filter { $0.specifier?.tokenKind != .keyword(.let) }.map(\.name.plain) ?? []
        })
    }

    /// What has to hold of the parameters that occur in these types.
    func conditions(for types: [TypeSyntax]) -> [String] {
      var conditions: [String] = []
      for type in types {
        for name in occurrences(in: Syntax(type)) where !conditions.contains(name) { conditions.append(name) }
      }
      return conditions.map { "\($0): MessagePorts.MessageValue" }
    }

    /// The parameters in a type; where only a type of theirs is in it, as in `Element.ID`, that one.
    private func occurrences(in node: Syntax) -> [String] {
      if let member = node.as(MemberTypeSyntax.self), parameters.contains(member.root) {
        return [member.trimmedDescription]
      }
      if let type = node.as(IdentifierTypeSyntax.self), parameters.contains(type.name.plain) { return [type.name.text] }
      return node.children(viewMode: .sourceAccurate).flatMap { occurrences(in: $0) }
    }
  }

  extension MemberTypeSyntax {
    /// The first of the names.
    fileprivate var root: String {
      if let member = baseType.as(MemberTypeSyntax.self) { return member.root }
      return baseType.as(IdentifierTypeSyntax.self)?.name.plain ?? ""
    }
  }
#endif
