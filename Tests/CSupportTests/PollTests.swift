import CSupport
import Glibc
import Testing

@Suite("epoll, eventfd")
struct PollTests {
  let epoll = csupport_epoll_create()

  /// The events that are there within `timeout_ns`.
  func wait(_ timeoutNanoseconds: Int64, capacity: Int = 8) -> [csupport_event] {
    var events = [csupport_event](repeating: csupport_event(), count: capacity)
    var count: CInt
    // Rings that other tests destroy interrupt this thread, if it was theirs.
    repeat {
      count = unsafe csupport_epoll_wait(epoll, &events, CInt(capacity), timeoutNanoseconds)
    } while count == -EINTR
    #expect(count >= 0)
    return Array(events.prefix(Int(count)))
  }

  @Test("An eventfd wakes with its token, keeps doing so until drained, and minds neither extra calls")
  func eventfd() {
    defer { _ = csupport_close(epoll) }
    let counter = csupport_eventfd_create()
    defer { _ = csupport_close(counter) }
    #expect(isCloseOnExec(epoll))
    #expect(isCloseOnExec(counter))
    #expect(csupport_epoll_add(epoll, counter, UInt32(CSUPPORT_EVENT_IN), UInt64.max - 1) == 0)
    #expect(csupport_epoll_add(epoll, counter, UInt32(CSUPPORT_EVENT_IN), 1) == -EEXIST)
    #expect(wait(0).isEmpty)
    #expect(csupport_eventfd_signal(counter) == 0)
    #expect(csupport_eventfd_signal(counter) == 0)
    for _ in 0..<2 {
      let events = wait(patienceNanoseconds)
      #expect(events.count == 1)
      #expect(events.first?.token == UInt64.max - 1)
      #expect(events.first?.events == UInt32(CSUPPORT_EVENT_IN))
    }
    #expect(csupport_eventfd_drain(counter) == 0)
    #expect(wait(0).isEmpty)
    #expect(csupport_eventfd_drain(counter) == 0)
    #expect(csupport_eventfd_signal(counter) == 0)
    #expect(csupport_epoll_remove(epoll, counter) == 0)
    #expect(wait(0).isEmpty)
    #expect(csupport_epoll_remove(epoll, counter) == -ENOENT)
  }

  @Test("Signalling a full counter is no error")
  func fullEventfd() {
    defer { _ = csupport_close(epoll) }
    let counter = csupport_eventfd_create()
    defer { _ = csupport_close(counter) }
    #expect(unsafe write(counter, [UInt64.max - 1], 8) == 8)
    #expect(csupport_eventfd_signal(counter) == 0)
    #expect(csupport_eventfd_drain(counter) == 0)
  }

  @Test("Edge-triggered: reported once per signal")
  func edge() {
    defer { _ = csupport_close(epoll) }
    let counter = csupport_eventfd_create()
    defer { _ = csupport_close(counter) }
    let events = UInt32(CSUPPORT_EVENT_IN) | UInt32(CSUPPORT_EVENT_EDGE)
    #expect(csupport_epoll_add(epoll, counter, events, 5) == 0)
    for _ in 0..<2 {
      #expect(csupport_eventfd_signal(counter) == 0)
      #expect(wait(patienceNanoseconds).count == 1)
      #expect(wait(0).isEmpty)
    }
  }

  @Test("A hang-up is reported even where nothing was asked for")
  func hangUp() {
    defer { _ = csupport_close(epoll) }
    var (first, second): (CInt, CInt) = (-1, -1)
    #expect(unsafe csupport_socket_pair(&first, &second) == 0)
    defer { _ = csupport_close(first) }
    #expect(csupport_epoll_add(epoll, first, 0, 9) == 0)
    #expect(wait(0).isEmpty)
    _ = csupport_close(second)
    let events = wait(patienceNanoseconds)
    #expect(events.count == 1)
    #expect(events.first?.token == 9)
    #expect(events.first.map { $0.events & UInt32(CSUPPORT_EVENT_HUP) != 0 } == true)
  }

  @Test("A wait ends at its time limit and not before", arguments: [1, 20_000_000] as [Int64])
  func timeout(nanoseconds: Int64) {
    defer { _ = csupport_close(epoll) }
    let start = csupport_monotonic_ns()
    #expect(wait(nanoseconds).isEmpty)
    #expect(csupport_monotonic_ns() - start >= UInt64(nanoseconds))
  }

  @Test("More events than there is room for come with the next call")
  func manyEvents() {
    defer { _ = csupport_close(epoll) }
    let counters = (0..<300).map { _ in csupport_eventfd_create() }
    defer { for counter in counters { _ = csupport_close(counter) } }
    for (index, counter) in counters.enumerated() {
      #expect(csupport_epoll_add(epoll, counter, UInt32(CSUPPORT_EVENT_IN), UInt64(index)) == 0)
      #expect(csupport_eventfd_signal(counter) == 0)
    }
    #expect(wait(0, capacity: 1000).count == 256)
    #expect(wait(0, capacity: 10).count == 10)
  }
}
