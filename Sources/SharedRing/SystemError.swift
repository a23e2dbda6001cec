import CSupport
import Glibc

/// A call into the kernel that failed: which one, and with what `errno`.
public struct SystemError: Error, Hashable, CustomStringConvertible {
  /// The call's name as in its manual page, such as `"mmap"`.
  public let call: String
  /// The positive error number (`EMFILE`, …).
  public let errno: CInt

  /// - Parameters:
  ///   - call: the call's name as in its manual page.
  ///   - errno: the positive error number.
  public init(call: String, errno: CInt) {
    self.call = call
    self.errno = errno
  }

  /// The call and what the error number means: "mmap failed: Cannot allocate memory".
  public var description: String { "\(call) failed: \(unsafe String(cString: csupport_error_name(errno)))" }
}

extension SystemError {
  /// Whether the same call may succeed later: something was used up.
  package var mayPass: Bool { [ENOMEM, EAGAIN, ENFILE, EMFILE, ENOBUFS, ENOSPC, EINTR].contains(errno) }
}

/// Turns the shim's "value or `-errno`" into a value or a thrown ``SystemError``.
///
/// A call interrupted by a signal is made again: signals disturb no operation. Callers that must look at the clock
/// after an interruption (waits with a time-out) use ``checkOnce(_:_:)``.
@discardableResult
package func check(_ call: StaticString, _ body: () -> CInt) throws(SystemError) -> CInt {
  while true {
    let result = body()
    if result >= 0 { return result }
    if result != -EINTR { throw SystemError(call: call.description, errno: -result) }
  }
}

/// As ``check(_:_:)`` for a result already at hand.
@discardableResult
package func checkOnce(_ call: StaticString, _ result: CInt) throws(SystemError) -> CInt {
  guard result < 0 else { return result }
  throw SystemError(call: call.description, errno: -result)
}
