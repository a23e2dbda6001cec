// The compiler's plugin, a program of its own. Without the trait `Macros` there is no swift-syntax to build it from, and
// nobody who asks for it; but whoever builds all of this package's targets builds this one as well.
#if Macros
  import SwiftCompilerPlugin
  import SwiftSyntaxMacros

  @main struct Plugin: CompilerPlugin {
    let providingMacros: [any Macro.Type] = [MessageValueMacro.self]
  }
#else
  @main struct Plugin { static func main() {} }
#endif
