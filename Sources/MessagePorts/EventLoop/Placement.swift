import CSupport
import Glibc

extension EventLoop {
  /// Where a loop's thread runs, and how the system chooses between it and others: for programs that have processors to spare for
  /// it.
  ///
  /// It is the loop's thread alone that is placed. Those that the library starts from there, and workers, run where the loop's maker
  /// could run, as usual. What a handler starts otherwise (threads of the program's, or of Dispatch's) is confined to the
  /// loop's processors as well, unless it says otherwise. Nothing that is started there has what takes a privilege: a real-time class,
  /// or a nice value below 0.
  public struct Placement: Sendable, Hashable {
    /// The numbers of the processors that it may run on, as in `/proc/cpuinfo`; `nil`: all that its maker may.
    public var processors: Set<Int>?
    /// `nil`: as its maker.
    public var scheduling: Scheduling?

    /// - Parameters:
    ///   - processors: not empty; see ``processors``.
    ///   - scheduling: see ``scheduling``.
    public init(processors: Set<Int>? = nil, scheduling: Scheduling? = nil) {
      self.processors = processors
      self.scheduling = scheduling
    }
  }

  /// How the system chooses between a thread and others that could run: see `sched(7)`.
  public enum Scheduling: Sendable, Hashable {
    /// As threads usually are. A lower `nice` value, of -20 to 19, means a larger share; below 0 (or `RLIMIT_NICE`) takes a
    /// privilege.
    case normal(nice: Int)
    /// The same for work that nobody waits for: it preempts nobody when it wakes up.
    case batch(nice: Int)
    /// Before all that are not of this kind or the next, for as long as it likes; of a higher `priority`, of 1 to 99, before a
    /// lower one. Takes a privilege, or `RLIMIT_RTPRIO`.
    ///
    /// A loop that never sleeps (``SpinPolicy/always``) has its processor for itself then: nothing else runs there, other threads
    /// of this library included, but for the share that the system keeps for them (`sched_rt_runtime_us`).
    case fifo(priority: Int)
    /// The same; those of one priority take turns.
    case roundRobin(priority: Int)
  }
}

/// Why a loop's thread cannot be as it was to be. There is none then.
public enum EventLoopError: Error, Sendable, Hashable {
  /// These processors do not exist, or this process may not use them (its control group's `cpuset` leaves them out).
  case processorsUnavailable(Set<Int>)
  /// This process may not have a thread scheduled like that: it takes `CAP_SYS_NICE`, or a higher `RLIMIT_RTPRIO` or `RLIMIT_NICE`.
  case schedulingNotPermitted(EventLoop.Scheduling)
  /// An option outside its range; the text names it.
  case invalidOption(String)
  /// The operating system refused something else: there is no thread to be had, or a filter forbids the call.
  case system(SystemError)
}

extension EventLoopError: CustomStringConvertible {
  /// The error in words.
  public var description: String {
    switch self {
    case .processorsUnavailable(let processors): "no such processors: \(processors.sorted())"
    case .schedulingNotPermitted(let scheduling): "not permitted: \(scheduling)"
    case .invalidOption(let text): text
    case .system(let error): error.description
    }
  }
}

extension EventLoop.Placement {
  func validate() throws(EventLoopError) {
    if processors?.isEmpty == true { throw .invalidOption("processors must not be empty") }
    switch scheduling {
    case nil: break
    case .normal(let nice), .batch(let nice):
      guard (-20...19).contains(nice) else { throw .invalidOption("nice must be -20 ... 19, not \(nice)") }
    case .fifo(let priority), .roundRobin(let priority):
      guard (1...99).contains(priority) else { throw .invalidOption("priority must be 1 ... 99, not \(priority)") }
    }
  }

  /// Starts a thread that is so placed, and returns once it is; or why no thread has begun.
  @unsafe func startThread(
    _ name: UnsafePointer<CChar>, _ body: @convention(c) (UnsafeMutableRawPointer?) -> Void,
    _ argument: UnsafeMutableRawPointer
  ) -> EventLoopError? {
    var numbers = (processors ?? []).map { CInt(clamping: $0) }
    var placement = unsafe csupport_placement()
    unsafe placement.processor_count = numbers.count
    unsafe placement.scheduling = CSUPPORT_SCHEDULE_AS_BEFORE
    switch scheduling {
    case nil: break
    case .normal(let nice): unsafe (placement.scheduling, placement.nice) = (CSUPPORT_SCHEDULE_NORMAL, CInt(nice))
    case .batch(let nice): unsafe (placement.scheduling, placement.nice) = (CSUPPORT_SCHEDULE_BATCH, CInt(nice))
    case .fifo(let priority):
      unsafe (placement.scheduling, placement.priority) = (CSUPPORT_SCHEDULE_FIFO, CInt(priority))
    case .roundRobin(let priority):
      unsafe (placement.scheduling, placement.priority) = (CSUPPORT_SCHEDULE_ROUND_ROBIN, CInt(priority))
    }
    let isAnywhere = processors == nil
    let result = unsafe numbers.withUnsafeMutableBufferPointer { numbers in
      unsafe placement.processors = isAnywhere ? nil : numbers.baseAddress
      return unsafe csupport_thread_start_placed(name, &placement, body, argument)
    }
    guard result < 0 else { return nil }
    let missing = Set(numbers.prefix(unsafe placement.missing_count))
    if !missing.isEmpty {
      return .processorsUnavailable((processors ?? []).filter { missing.contains(CInt(clamping: $0)) })
    }
    switch unsafe placement.failed_step {
    case CSUPPORT_PLACEMENT_PROCESSORS: return .system(SystemError(call: "sched_setaffinity", errno: -result))
    case CSUPPORT_PLACEMENT_SCHEDULING:
      if result == -EPERM, let scheduling { return .schedulingNotPermitted(scheduling) }
      return .system(SystemError(call: "sched_setattr", errno: -result))
    default: return .system(SystemError(call: "pthread_create", errno: -result))
    }
  }
}
