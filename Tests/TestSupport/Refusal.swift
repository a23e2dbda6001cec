import CTestSupport
import Glibc

/// A system call that the kernel is to refuse, and the error.
public struct Refusal: Sendable, CustomStringConvertible {
  public enum Call: String, Sendable {
    case chmod, clone, clone3, epoll_ctl, epoll_pwait2, eventfd2, fallocate, ftruncate, futex_waitv
    case io_uring_enter, io_uring_register, io_uring_setup
    case membarrier, memfd_create, mmap, pidfd_open, recvmsg, sendmsg, setsockopt, socket, socketpair

    fileprivate var number: CInt {
      let number =
        switch self {
        case .chmod: CTEST_CHMOD
        case .clone: CTEST_CLONE
        case .clone3: CTEST_CLONE3
        case .epoll_ctl: CTEST_EPOLL_CTL
        case .epoll_pwait2: CTEST_EPOLL_PWAIT2
        case .eventfd2: CTEST_EVENTFD2
        case .fallocate: CTEST_FALLOCATE
        case .ftruncate: CTEST_FTRUNCATE
        case .futex_waitv: CTEST_FUTEX_WAITV
        case .io_uring_enter: CTEST_IO_URING_ENTER
        case .io_uring_register: CTEST_IO_URING_REGISTER
        case .io_uring_setup: CTEST_IO_URING_SETUP
        case .membarrier: CTEST_MEMBARRIER
        case .memfd_create: CTEST_MEMFD_CREATE
        case .mmap: CTEST_MMAP
        case .pidfd_open: CTEST_PIDFD_OPEN
        case .recvmsg: CTEST_RECVMSG
        case .sendmsg: CTEST_SENDMSG
        case .setsockopt: CTEST_SETSOCKOPT
        case .socket: CTEST_SOCKET
        case .socketpair: CTEST_SOCKETPAIR
        }
      return CInt(number)
    }
  }

  public let call: Call
  public let error: CInt
  private var argument: CInt = -1
  private var mask: UInt32 = 0
  private var value: UInt32 = 0

  public init(_ call: Call, _ error: CInt) {
    self.call = call
    self.error = error
  }

  /// Only where that argument's low bits, masked, have this value.
  public init(_ call: Call, _ error: CInt, where argument: CInt, mask: UInt32 = .max, is value: UInt32) {
    self.call = call
    self.error = error
    self.argument = argument
    self.mask = mask
    self.value = value
  }

  /// Shared mappings only: the heap still gets its memory.
  public static func sharedMapping(_ error: CInt) -> Refusal {
    Refusal(.mmap, error, where: 3, mask: UInt32(MAP_SHARED), is: UInt32(MAP_SHARED))
  }

  public var description: String { "\(call.rawValue): \(unsafe String(cString: strerror(error)))" }

  private static func install(_ refusals: [Refusal], inWholeProcess: Bool) {
    let list = refusals.map {
      ctest_refusal(call: $0.call.number, error: $0.error, argument: $0.argument, mask: $0.mask, value: $0.value)
    }
    let result = unsafe ctest_refuse(list, list.count, inWholeProcess)
    precondition(result == 0, "no filter for system calls: \(result)")
  }

  /// From now on, in this process and those that it starts, for ever.
  public static func everywhere(_ refusals: [Refusal]) { install(refusals, inWholeProcess: true) }

  /// From now on, on this thread, for ever.
  public static func onThisThread(_ refusals: [Refusal]) { install(refusals, inWholeProcess: false) }

  /// Runs `body`, which may block, on a thread of its own, to which alone the calls are refused.
  public static func during<Result: Sendable>(
    _ refusals: [Refusal], _ body: @escaping @Sendable () throws -> Result
  ) async throws -> Result {
    try await onThread {
      onThisThread(refusals)
      return try body()
    }
  }
}
