/// What a worker does with ports at one stop of their journey; the first stop of a journey is where they are.
struct TortureStop: Codable, Sendable {
  var round: Int
  var hop: Int
  /// They go together.
  var ports: [PortID]
  var reading: Reading
  /// How many messages to post on each.
  var posts: Int
  var finish: Finish
  /// A process on the way is going to be killed: the ports may never get here.
  var isRisky = false
  /// Up to here, a process that will be killed had a handler on the ports: it may die with a message in hand, which
  /// nobody gets.
  var mayMissOne = false

  enum Reading: Codable, Sendable, Equatable {
    /// With a message handler.
    case handler
    /// Not at all: messages wait.
    case paused
    /// Without waiting, this often after each post.
    case polled(Int)
    /// By a thread that blocks, until that many messages have come on the channel.
    case blocking(until: Int)
    /// With a message handler that answers each message with one, until that many were posted here. Whoever waits for
    /// an answer goes to sleep and has to be woken.
    case volley(until: Int)
    /// As two halves, each as fast as it can; messages are small then.
    case split
  }

  enum Finish: Codable, Sendable, Equatable {
    case stay
    /// Inside a message on that port.
    case move(over: PortID)
    case close
    /// Lets go of them, which closes them.
    case drop
  }

  struct Key: Hashable {
    let port: PortID
    let round: Int
    let hop: Int
  }
  var key: Key { Key(port: ports[0], round: round, hop: hop) }
}
