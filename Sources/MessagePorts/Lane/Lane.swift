import SharedRing
import Synchronization

/// One direction of a channel, as far as it is in this process: the end that posts, the end that receives, or both.
///
/// While both ends are here, messages wait in a local queue. Once one has left, the end that stayed works on a ring in
/// shared memory: its sending half writes, or its receiving half reads.
///
/// The lock is held for the time of one post or one receive, never while user code runs; what is left to do afterwards
/// is an ``AfterLock``. Whoever holds one lane's lock takes another one's only under the ``TransferLock``, so there is no
/// order to get wrong.
final class Lane: Sendable {
  let state: Lock<LaneState>
  /// The lane is locked because its channel is becoming shared. Of use only under the ``TransferLock``, whose holder
  /// comes by again if ports wait in each other's channels; relaxed for the same reason.
  let isMoving = Atomic<Bool>(false)

  init(_ options: ChannelOptions) { state = Lock(LaneState(options)) }

  /// The lane on which an end that has arrived from another process posts.
  init(_ options: ChannelOptions, producer: consuming RingProducer, channel: SharedChannel) {
    var initial = LaneState(options)
    initial.sending.attach(producer, to: channel)
    state = Lock(initial)
  }

  /// The lane on which an end that has arrived from another process receives.
  init(_ options: ChannelOptions, records: consuming RecordReader, channel: SharedChannel) {
    var initial = LaneState(options)
    initial.receiving.attach(records, to: channel)
    state = Lock(initial)
  }
}

/// What a lane's lock guards. An operation that concerns both halves, because both are here, is in an extension of this.
struct LaneState: ~Copyable {
  var sending: SendingHalf
  var receiving: ReceivingHalf

  init(_ options: ChannelOptions) {
    sending = SendingHalf(options)
    receiving = ReceivingHalf(options)
  }
}

/// By what means a half of a lane reaches the other half.
enum LaneTransport: Sendable {
  /// By the lane's queue: the other half is in this process. Or this half is used up, or was never here.
  case local
  /// By a ring in shared memory, wherever the other half is.
  case ring(SharedChannel)

  /// The shared channel, if there is one.
  var channel: SharedChannel? {
    switch self {
    case .local: nil
    case .ring(let channel): channel
    }
  }

  /// Wakes whoever sleeps on the channel's socket.
  func signalOnSocket() { channel?.signal() }
}
