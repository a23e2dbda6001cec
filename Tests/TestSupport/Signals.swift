import Glibc
import Synchronization

private let count = Atomic<Int>(0)

/// Sends this process a signal, again and again, to a handler that interrupts whatever call it comes in.
public func startSignals(everyMicroseconds period: Int) {
  var action = sigaction()
  unsafe action.__sigaction_handler.sa_handler = { _ in count.add(1, ordering: .relaxed) }
  action.sa_flags = 0  // not SA_RESTART
  unsafe sigaction(SIGALRM, &action, nil)
  var timer = itimerval(
    it_interval: timeval(tv_sec: 0, tv_usec: period), it_value: timeval(tv_sec: 0, tv_usec: period))
  unsafe setitimer(__itimer_which_t(ITIMER_REAL.rawValue), &timer, nil)
}

/// How many of them were handled.
public func signalCount() -> Int { count.load(ordering: .relaxed) }

/// Lets signals be handled on this thread: those that tests start have them blocked.
public func unblockSignals() {
  var signals = sigset_t()
  unsafe sigfillset(&signals)
  unsafe pthread_sigmask(SIG_UNBLOCK, &signals, nil)
}
