import CSupport
import SharedRing
import Synchronization

/// A thread that sleeps on a loop's epoll while the loop spins, and says in memory that something is there. So the loop enters the
/// kernel when there is something to collect, and not to ask.
///
///     lookout                                 loop
///     1. sleep until epoll has something      1. no news: go on spinning
///     2. say so                               2. news: take it back, collect
///     3. sleep until told to go on            3. tell the lookout to go on
///
/// Whatever is there after the loop has collected, the lookout finds again, since epoll goes on saying so.
final class EpollLookout: Sendable {
  /// Something is there, or was. Relaxed: what it is, the kernel says.
  private let hasNews = Atomic<Bool>(true)
  /// Relaxed: whoever sets it wakes the lookout afterwards.
  private let isOver = Atomic<Bool>(false)
  /// On which the lookout sleeps meanwhile.
  private let word = PrivateWord()
  private let driver: EpollDriver

  private init(_ driver: EpollDriver) { self.driver = driver }

  /// `nil`: there is no thread to be had, and the loop asks by itself.
  static func start(for driver: EpollDriver) -> EpollLookout? {
    let lookout = EpollLookout(driver)
    let reference = unsafe Unmanaged.passRetained(lookout)
    let result = unsafe csupport_thread_start(
      "messageports-lo", { unsafe Unmanaged<EpollLookout>.fromOpaque($0!).takeRetainedValue().run() },
      reference.toOpaque())
    if result >= 0 { return lookout }
    unsafe reference.release()
    return nil
  }

  private func run() {
    while true {
      // Before the sleep: the loop may be quick to tell this to go on.
      let ticket = word.ticket
      while csupport_wait_readable(driver.epoll, -1) < 0, !isOver.load(ordering: .relaxed) {}
      if isOver.load(ordering: .relaxed) { return }
      hasNews.store(true, ordering: .relaxed)
      ticket.wait(timeoutNanoseconds: -1)
    }
  }

  // MARK: On the loop's thread

  /// Whether there may be something to collect. No system call.
  func takeNews() -> Bool {
    guard hasNews.load(ordering: .relaxed) else { return false }
    hasNews.store(false, ordering: .relaxed)
    return true
  }

  /// All was collected that there was.
  func goOn() { word.ring() }

  /// Ends the thread, which lets go of the driver.
  func stop() {
    isOver.store(true, ordering: .relaxed)
    // It sleeps on one or the other.
    driver.wake()
    word.ring()
  }
}
