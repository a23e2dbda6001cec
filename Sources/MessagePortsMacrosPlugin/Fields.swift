#if Macros
  import SwiftSyntax

  /// The stored properties of a struct that have a key.
  struct Fields {
    private struct Field {
      let name: TokenSyntax
      /// A `let` with a value is written, and never read.
      let isRead: Bool
      let type: TypeSyntax?
      let declaration: VariableDeclSyntax
    }

    private let fields: [(field: Field, key: String)]

    init(of declaration: StructDeclSyntax) throws {
      let members = declaration.memberBlock.members
      let fields = try members.flatMap { try Self.fields(in: $0.decl) }
      if let keys = try CodingKeyNames("CodingKeys", in: members)?.keys {
        self.fields = try keys.map { key in
          guard let field = fields.first(where: { $0.name.plain == key.name }) else {
            throw key.node.complaint("there is no stored property '\(key.name)' that this is the key of")
          }
          return (field, key.text)
        }
      } else {
        self.fields = fields.map { ($0, $0.name.plain.literal) }
      }
      for (field, _) in self.fields { try Self.check(field) }
    }

    /// The types in which a parameter of a generic type may occur.
    var types: [TypeSyntax] { fields.compactMap { $0.field.type } }

    var body: Body {
      Body(
        write: fields.map { field, key in "entries.write(self.\(field.name.trimmedDescription), forKey: \(key))" },
        // As the compiler does for `Codable`: what has no keys does not even have to be a container.
        read: fields.isEmpty
          ? nil
          : fields.filter { $0.field.isRead }.map { field, key in
            "self.\(field.name.trimmedDescription) = try entries.read(forKey: \(key))"
          })
    }

    private static func fields(in declaration: DeclSyntax) throws -> [Field] {
      if let condition = declaration.as(IfConfigDeclSyntax.self), condition.mayMatter {
        throw condition.conditionalMembers
      }
      guard let variable = declaration.as(VariableDeclSyntax.self), !variable.isLazyOrStatic else { return [] }
      let isLet = variable.bindingSpecifier.tokenKind == .keyword(.let)
      // In `var x, y: Int`, the type stands only behind the last one.
      var (fields, type): ([Field], TypeSyntax?) = ([], nil)
      for binding in variable.bindings.reversed() where binding.isStored {
        type = binding.typeAnnotation?.type ?? (binding.initializer == nil ? type : nil)
        for name in binding.pattern.names.reversed() {
          fields.append(
            Field(
              name: name, isRead: !(isLet && binding.initializer != nil), type: type, declaration: variable))
        }
      }
      return fields.reversed()
    }

    private static func check(_ field: Field) throws {
      for attribute in field.declaration.attributes {
        guard let attribute = attribute.as(AttributeSyntax.self) else {
          throw attribute.complaint("what is in '#if' cannot be derived: a macro does not know whether it is compiled")
        }
        // The compiler's own are written in lower case, but for the main actor.
        let name = attribute.attributeName.trimmedDescription
        if name.split(separator: ".").last?.first?.isUppercase == true, name != "MainActor" {
          throw attribute.complaint(
            """
            a property with '@\(name)' cannot be derived, which may be a property wrapper or another macro: leave it out \
            of 'CodingKeys', or write 'write(to:)' and 'init(from:)' by hand
            """)
        }
      }
    }
  }

  extension VariableDeclSyntax {
    /// The compiler leaves both out of `Codable`.
    fileprivate var isLazyOrStatic: Bool {
      modifiers.contains { $0.name.tokenKind == .keyword(.static) || $0.name.tokenKind == .keyword(.lazy) }
    }

    /// Whether any of these variables has a key, unless the type says otherwise.
    var isStored: Bool { !isLazyOrStatic && bindings.contains(where: \.isStored) }
  }

  extension PatternBindingSyntax {
    /// A variable that has no code of its own but observers.
    fileprivate var isStored: Bool {
      guard let accessorBlock else { return true }
      return accessorBlock.accessors.as(AccessorDeclListSyntax.self)?.allSatisfy {
        $0.accessorSpecifier.tokenKind == .keyword(.willSet) || $0.accessorSpecifier.tokenKind == .keyword(.didSet)
      } ?? false
    }
  }
#endif
