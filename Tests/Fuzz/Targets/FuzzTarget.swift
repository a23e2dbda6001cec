/// One thing that reads what a peer wrote. An input says what the peer does, and what the victim does in between.
///
/// A run returns, whatever the input. It traps if the victim does what it must not; the fuzzer, or the test that
/// replays the corpus, sees that. The address sanitizer objects, too.
enum FuzzTarget: String, CaseIterable, Sendable {
  /// A lane's consumer, while its producer writes anything anywhere.
  case lane
  /// A lane's producer, while its consumer lies about what it has read.
  case producer
  /// A port that receives ports: packets, descriptors and the memory that comes with them.
  case transfer
  /// The first packet of a connection, on both sides.
  case handshake
  /// A message with a channel name.
  case envelope
  /// The default coder.
  case coder

  func run(_ bytes: [UInt8]) {
    var input = FuzzInput(bytes)
    switch self {
    case .lane: LaneFuzz.run(&input)
    case .producer: ProducerFuzz.run(&input)
    case .transfer: TransferFuzz.run(&input)
    case .handshake: HandshakeFuzz.run(&input)
    case .envelope: EnvelopeFuzz.run(&input)
    case .coder: CoderFuzz.run(&input)
    }
  }

  /// Inputs to begin with: what correct peers do, which chance would hardly find.
  var seeds: [[UInt8]] {
    switch self {
    case .lane: LaneFuzz.seeds
    case .producer: ProducerFuzz.seeds
    case .transfer: TransferFuzz.seeds
    case .handshake: HandshakeFuzz.seeds
    case .envelope: EnvelopeFuzz.seeds
    case .coder: CoderFuzz.seeds
    }
  }
}

/// What must hold whatever a peer does. A trap, so that the fuzzer keeps the input.
func demand(_ condition: Bool, _ what: @autoclosure () -> String, line: UInt = #line) {
  if !condition { fatalError("\(what()) (line \(line))") }
}
