/// What happens in one round, decided before it begins by the seed and by all earlier decisions.
struct TorturePlan {
  var orders: [TortureOrders]
  /// Channels that may be cut somewhere by the kill.
  var risky: Set<UInt32> = []
  /// Channels that one end closes.
  var closing: Set<UInt32> = []
  var victim: Disturbance?
  /// A worker that is stopped for a while.
  var stopped: Disturbance?

  struct Disturbance {
    let worker: Int
    let afterMicroseconds: UInt32
    /// How long a stop lasts.
    let microseconds: UInt32
  }
}
