#if Macros
  import SwiftDiagnostics
  import SwiftSyntax

  /// Why nothing is derived.
  struct Complaint: DiagnosticMessage {
    let message: String
    let severity = DiagnosticSeverity.error
    let diagnosticID = MessageID(domain: "MessagePortsMacros", id: "MessageValue")
  }

  extension SyntaxProtocol {
    /// The error that says so at this place of the source.
    func complaint(_ message: String) -> DiagnosticsError {
      DiagnosticsError(diagnostics: [Diagnostic(node: self, message: Complaint(message: message))])
    }
  }
#endif
