// boost::lockfree::spsc_queue with a capacity fixed at compile time, which is what its manual asks for when the queue
// is in memory shared by two processes. Once with push and pop of one, once with its push and pop of many.
#include <boost/lockfree/spsc_queue.hpp>

#include "slots.hpp"

using namespace peers;

template <size_t bytesPerMessage>
struct BoostRing {
  static constexpr size_t size = bytesPerMessage;
  using Queue = boost::lockfree::spsc_queue<Message<size>, boost::lockfree::capacity<slotCount(bytesPerMessage)>>;
  alignas(4096) Queue queue;
  bool push(const Message<size> &message) { return queue.push(message); }
  bool pop(Message<size> &message) { return queue.pop(message); }
};

/// Publishes and takes up to `batch` messages with one pair of index updates.
template <size_t size>
class BatchEnd {
 public:
  BatchEnd(Side side, Job &job) : out_(batch), in_(batch) {
    ring_ = static_cast<BoostRing<size> *>(job.shared);
    if (side == Side::producer) new (ring_) BoostRing<size>;
    for (auto &message : out_) fillPattern(message.bytes, size);
  }

  uint8_t *source() { return out_[filled_].bytes; }

  void send() {
    if (++filled_ == batch) flush();
  }

  void flush() {
    for (size_t sent = 0; sent < filled_;) {
      size_t taken = ring_->queue.push(&out_[sent], filled_ - sent);
      if (taken == 0) peers_relax();
      sent += taken;
    }
    filled_ = 0;
  }

  const uint8_t *receive() {
    while (next_ == held_) {
      next_ = 0;
      held_ = ring_->queue.pop(in_.data(), batch);
      if (held_ == 0) peers_relax();
    }
    return in_[next_++].bytes;
  }

 private:
  static constexpr size_t batch = 64;
  BoostRing<size> *ring_;
  std::vector<Message<size>> out_, in_;
  size_t filled_ = 0, held_ = 0, next_ = 0;
};

int main(int argc, char **argv) {
  const char *note = "one copy in by push, one out by pop, no batching, both sides spin; " PEERS_SLOTS_NOTE;
  const char *batched = "push and pop of up to 64 at a time, one copy in and one out per message, both sides spin; " PEERS_SLOTS_NOTE;
  Peer peer = {"boost_spsc", Placement::processes, slotMemoryBytes, slotCases<BoostRing>(note)};
  peer.cases.push_back({"oneway_msgs_per_s", 8, "batch64", oneWayMessages<BatchEnd<8>>, batched});
  peer.cases.push_back({"oneway_msgs_per_s", 64, "batch64", oneWayMessages<BatchEnd<64>>, batched});
  peer.cases.push_back({"oneway_msgs_per_s", 1024, "batch64", oneWayMessages<BatchEnd<1024>>, batched});
  return run(peer, argc, argv);
}
