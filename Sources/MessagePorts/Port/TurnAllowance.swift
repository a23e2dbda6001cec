import CSupport
import SharedRing

/// What a loop does for one port before it looks after the others, whatever it is that came: everything that a peer can
/// make it do is paid from this. A turn may exceed it by the one thing that it was spent on.
struct TurnAllowance: Sendable {
  /// What is copied, and other work as if so much were.
  private var bytes: Int
  /// A small record costs 64 of these, a large one costs one.
  private var steps: Int
  /// When the turn ends in any case, once ``checkTime()`` was called; 0 before.
  private var endNanoseconds: UInt64 = 0

  private init(bytes: Int, steps: Int) { (self.bytes, self.steps) = (bytes, steps) }

  /// Less than a millisecond, on most machines.
  static var ofTurn: TurnAllowance { TurnAllowance(bytes: 1 << 20, steps: 1 << 15) }
  /// For a thread of the program's own, which keeps nobody waiting: more than the largest message has fragments. There is
  /// an end to it, so that a malicious peer cannot keep the thread from looking at the time.
  static var ofThread: TurnAllowance { TurnAllowance(bytes: .max, steps: 1 << 18) }

  private static let bytesPerPort = 32 << 10
  private static let bytesPerDescriptor = 4 << 10
  private static let longestNanoseconds: UInt64 = 2_000_000

  var isSpent: Bool { bytes <= 0 || steps <= 0 }

  mutating func spend(bytes count: Int) { bytes -= count }

  /// A fragment, or an abort.
  mutating func spend(_ record: RingRecord) {
    bytes -= record.byteCount
    // Correct peers write large fragments; a few small ones, or aborts, have to do.
    steps -= record.byteCount < 1024 ? 64 : 1
  }

  /// A look at the socket, in vain.
  mutating func spendLook() { steps -= 64 }

  /// Ports that arrive: sockets, memory that is mapped, and what is made of them; and descriptors, which have to be closed
  /// if nobody takes them.
  mutating func spend(_ cargo: CargoCount) {
    bytes -= cargo.ports * Self.bytesPerPort + cargo.descriptors * Self.bytesPerDescriptor
  }

  /// Spends all of it once the turn has taken too long, handlers included.
  mutating func checkTime() {
    let now = csupport_monotonic_ns()
    if endNanoseconds == 0 {
      endNanoseconds = now + Self.longestNanoseconds
    } else if now > endNanoseconds {
      bytes = 0
    }
  }
}
