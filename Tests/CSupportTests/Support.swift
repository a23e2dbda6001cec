// What several of these tests need: memory seen twice, a second thread, deadlines, descriptor counts.

import CSupport
import Glibc
import Synchronization

/// Long enough for a loaded machine; only a failing test ever waits that long.
let patienceNanoseconds: Int64 = 10_000_000_000

/// Calls `condition` until it is true. Returns `false` if the deadline passes first.
func eventually(_ condition: () -> Bool) -> Bool {
  let deadline = csupport_monotonic_ns() + UInt64(patienceNanoseconds)
  while !condition() {
    guard csupport_monotonic_ns() < deadline else { return false }
    sched_yield()
  }
  return true
}

/// A thread that is running `body` when this exists. (An `async let` might wait for a thread of the pool, and these
/// tests block those.)
final class HelperThread<Result: Sendable>: Sendable {
  private let outcome = Mutex<Result?>(nil)

  init(named name: String = "test-helper", _ body: @escaping @Sendable () -> Result) {
    let job = Job {
      let result = body()
      self.outcome.withLock { $0 = result }
    }
    let started = unsafe csupport_thread_start(
      name, { unsafe Unmanaged<Job>.fromOpaque($0!).takeRetainedValue().run() },
      Unmanaged.passRetained(job).toOpaque())
    precondition(started == 0, "no thread: \(started)")
  }

  /// What `body` returned; `nil` if it does not return in time.
  func result() -> Result? {
    var result: Result?
    _ = eventually {
      result = outcome.withLock { $0 }
      return result != nil
    }
    return result
  }
}

private final class Job {
  let run: () -> Void
  init(_ run: @escaping () -> Void) { self.run = run }
}

/// New memory, mapped at two addresses, so that only what is meant for sharing between processes works across.
@safe struct TwiceMapped: @unchecked Sendable {  // safe: never unmapped; Sendable: used through system calls only
  let first: UnsafeMutableRawPointer
  let second: UnsafeMutableRawPointer

  init(bytes: Int = 65536) {
    let fd = csupport_memory_create_sealed(UInt64(bytes))
    precondition(fd >= 0, "no memory: \(fd)")
    func map() -> UnsafeMutableRawPointer {
      var address: UnsafeMutableRawPointer?
      let result = unsafe csupport_memory_map(fd, 0, bytes, &address)
      precondition(result == 0, "no mapping: \(result)")
      return unsafe address!
    }
    unsafe first = map()
    unsafe second = map()
    _ = csupport_close(fd)
  }

  func word(_ index: Int) -> UnsafeMutableRawPointer { unsafe first + 4 * index }
  func sameWord(_ index: Int) -> UnsafeMutableRawPointer { unsafe second + 4 * index }
}

/// Whether `body`, called many times, leaves no descriptor open per call, also not one that is closed elsewhere. Meaningful
/// only where no other test runs: in an exit test. (A few may appear all the same: Dispatch opens its own when it first
/// needs them.)
func leavesNoDescriptor(_ body: () -> Void) -> Bool {
  func openCount() -> Int { (0..<8192).count { isOpen(CInt($0)) } }
  let calls = 50
  let before = openCount()
  for _ in 0..<calls { body() }
  return eventually { openCount() < before + calls / 2 }
}

func isOpen(_ fd: CInt) -> Bool { fcntl(fd, F_GETFD) >= 0 }
func isCloseOnExec(_ fd: CInt) -> Bool { fcntl(fd, F_GETFD) & FD_CLOEXEC != 0 }
func isNonBlocking(_ fd: CInt) -> Bool { fcntl(fd, F_GETFL) & O_NONBLOCK != 0 }

func setLimit(_ resource: __rlimit_resource, _ value: Int) {
  let resource = __rlimit_resource_t(resource.rawValue)
  var limit = rlimit()
  unsafe getrlimit(resource, &limit)
  limit.rlim_cur = rlim_t(value)
  let result = unsafe setrlimit(resource, &limit)
  precondition(result == 0)
}

func facts(_ fd: CInt) -> csupport_file_facts {
  var facts = csupport_file_facts()
  let result = unsafe csupport_file_facts(fd, &facts)
  precondition(result == 0, "no facts: \(result)")
  return facts
}

/// A path in /tmp that nobody has used.
func freshPath() -> String {
  "/tmp/csupport-tests-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
}

extension String {
  /// The bytes of this ASCII text.
  var ascii: [UInt8] { Array(utf8) }
}

/// Linux's numbers that Glibc's module leaves out.
let F_DUPFD_CLOEXEC: CInt = 1030
let F_ADD_SEALS: CInt = 1033
let F_SEAL_GROW: CInt = 4
let O_PATH: CInt = 0o10000000
let SO_PASSPIDFD: CInt = 76
