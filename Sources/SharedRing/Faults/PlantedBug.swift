#if PLANTED_LOST_WAKE_UP || PLANTED_FORGOTTEN_MESSAGE
  import Glibc
  import Synchronization

  /// Bugs for the torture test to find, so that its silence means something. Only builds with
  /// `-D PLANTED_LOST_WAKE_UP` or `-D PLANTED_FORGOTTEN_MESSAGE` have them; no manifest and no default sets these.
  package enum PlantedBug {
    /// How rare: it strikes at one chance in this many. `MESSAGEPORTS_PLANTED_ONE_IN` in the environment says
    /// otherwise.
    private static let oneIn =
      unsafe getenv("MESSAGEPORTS_PLANTED_ONE_IN").flatMap { unsafe UInt64(String(cString: $0)) } ?? 1_000_000

    private static let chances = Atomic<UInt64>(0)

    package static func strikes() -> Bool {
      let number = chances.wrappingAdd(1, ordering: .relaxed).newValue
      guard UInt64.random(in: 0..<oneIn) == 0 else { return false }
      let text = Array("planted bug: struck at chance \(number) of process \(getpid())\n".utf8)
      return unsafe write(STDERR_FILENO, text, text.count) >= 0
    }
  }
#endif
