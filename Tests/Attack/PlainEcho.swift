import Glibc
import TestSupport

/// Asks over a plain socket pair, which has nothing to do with the library, and is answered by a thread: what a round
/// trip takes in this process at this moment.
final class PlainEcho: Sendable {
  let roundTrips = RoundTrips()
  private let isOver = Flag()
  private let asked: TestThread<Void>

  init() {
    var fds: (CInt, CInt) = (-1, -1)
    let result = unsafe withUnsafeMutablePointer(to: &fds) { pointer in
      unsafe pointer.withMemoryRebound(to: CInt.self, capacity: 2) {
        unsafe socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0, $0)
      }
    }
    precondition(result == 0, "no socket pair")
    let (asking, answering) = fds
    startThread {
      var byte: UInt8 = 0
      while unsafe read(answering, &byte, 1) == 1, unsafe write(answering, &byte, 1) == 1 {}
      close(answering)
    }
    asked = TestThread { [roundTrips, isOver] in
      var byte: UInt8 = 0
      while !isOver.isSet {
        let start = ContinuousClock.now
        guard unsafe write(asking, &byte, 1) == 1, unsafe read(asking, &byte, 1) == 1 else { break }
        roundTrips.add(from: start, to: .now)
        usleep(2000)
      }
      close(asking)
    }
  }

  func end() throws {
    isOver.set()
    try asked.join()
  }
}
