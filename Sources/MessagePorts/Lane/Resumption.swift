/// A task that waits for a value, to be resumed exactly once: whoever removes it from where it is kept, under the lock
/// that guards that place, resumes it.
@safe
struct Resumption<Value: Sendable>: Sendable {
  private let continuation: UnsafeContinuation<Value, Never>

  func resume(_ value: Value) { unsafe continuation.resume(returning: value) }

  /// Suspends the task; `body` is called at once with what resumes it.
  static func suspend(
    isolation: isolated (any Actor)? = #isolation, _ body: (Resumption) -> Void
  ) async -> Value {
    unsafe await withUnsafeContinuation { continuation in unsafe body(Resumption(continuation: continuation)) }
  }
}
