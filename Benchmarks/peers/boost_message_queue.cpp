// boost::interprocess::message_queue: a named queue in shared memory under a mutex and two condition variables.
// One queue per direction, as its manual's example does; the default one sleeps in send and receive.
#include <boost/interprocess/ipc/message_queue.hpp>

#include <optional>

#include "driver.hpp"

using namespace peers;
using Queue = boost::interprocess::message_queue;
namespace ipc = boost::interprocess;

/// 1,000 messages (the manual's example has 100) while they fit 1 MiB, and never fewer than 4.
static size_t queueDepth(size_t size) {
  size_t fits = (1 << 20) / size;
  return fits > 1000 ? 1000 : fits < 4 ? 4 : fits;
}

template <bool spins>
class QueueEnd {
 public:
  QueueEnd(Side side, Job &job) : source_(job.size), target_(job.size), size_(job.size) {
    std::string mine = job.name + (side == Side::producer ? "-0" : "-1");
    std::string other = job.name + (side == Side::producer ? "-1" : "-0");
    out_.emplace(ipc::open_only, mine.c_str());
    in_.emplace(ipc::open_only, other.c_str());
  }

  uint8_t *source() { return source_.data(); }

  void send() {
    if (spins) {
      while (!out_->try_send(source_.data(), size_, 0)) peers_relax();
    } else {
      out_->send(source_.data(), size_, 0);
    }
  }

  void flush() {}

  const uint8_t *receive() {
    Queue::size_type received;
    unsigned priority;
    if (spins) {
      while (!in_->try_receive(target_.data(), size_, received, priority)) peers_relax();
    } else {
      in_->receive(target_.data(), size_, received, priority);
    }
    return target_.data();
  }

 private:
  Buffer source_, target_;
  size_t size_;
  std::optional<Queue> out_, in_;
};

static void createQueues(Job &job) {
  if (job.size == 0) return;  // a case that creates its own
  for (const char *suffix : {"-0", "-1"}) {
    Queue((ipc::create_only), (job.name + suffix).c_str(), queueDepth(job.size), job.size);
  }
}

static void removeQueues(Job &job) {
  for (const char *suffix : {"-0", "-1"}) Queue::remove((job.name + suffix).c_str());
}

static void createAndRemove(Side side, Job &job) {
  meet(job);
  std::string name = job.name + "-0";
  rate(side, job, [&] {
    {
      Queue one(ipc::create_only, name.c_str(), 100, 64);
      Queue other(ipc::open_only, name.c_str());
    }
    Queue::remove(name.c_str());
  });
}

int main(int argc, char **argv) {
  const char *sleeping = "send and receive sleep; one copy in, one out, no batching; 1000 slots or 1 MiB, whichever is less";
  const char *spinning = "try_send and try_receive in a loop, each takes the queue's lock; one copy in, one out; 1000 slots or 1 MiB, whichever is less";
  Peer peer = {"boost_message_queue", Placement::processes, 0,
               {
                   {"rtt_poll_ns", 8, "", roundTrip<QueueEnd<true>>, spinning},
                   {"rtt_poll_ns", 64, "", roundTrip<QueueEnd<true>>, spinning},
                   {"rtt_poll_ns", 256, "", roundTrip<QueueEnd<true>>, spinning},
                   {"rtt_poll_ns", 1024, "", roundTrip<QueueEnd<true>>, spinning},
                   {"rtt_poll_ns", 8192, "", roundTrip<QueueEnd<true>>, spinning},
                   {"rtt_poll_ns", 65536, "", roundTrip<QueueEnd<true>>, spinning},
                   {"rtt_sleep_ns", 8, "", roundTrip<QueueEnd<false>>, sleeping},
                   {"rtt_sleep_ns", 1024, "", roundTrip<QueueEnd<false>>, sleeping},
                   {"rtt_sleep_onecore_ns", 8, "", roundTrip<QueueEnd<false>>, sleeping},
                   {"rtt_sleep_onecore_ns", 1024, "", roundTrip<QueueEnd<false>>, sleeping},
                   {"oneway_msgs_per_s", 8, "", oneWayMessages<QueueEnd<false>>, sleeping},
                   {"oneway_msgs_per_s", 64, "", oneWayMessages<QueueEnd<false>>, sleeping},
                   {"oneway_msgs_per_s", 1024, "", oneWayMessages<QueueEnd<false>>, sleeping},
                   {"oneway_msgs_per_s", 8192, "", oneWayMessages<QueueEnd<false>>, sleeping},
                   {"oneway_msgs_per_s", 8, "try", oneWayMessages<QueueEnd<true>>, spinning},
                   {"oneway_msgs_per_s", 64, "try", oneWayMessages<QueueEnd<true>>, spinning},
                   {"oneway_bytes_per_s", 65536, "", oneWayBytes<QueueEnd<false>>, sleeping},
                   {"oneway_bytes_per_s", 1048576, "", oneWayBytes<QueueEnd<false>>, sleeping},
                   {"create_per_s", -1, "", createAndRemove,
                    "create (100 messages of 64 B), open a second time, close both, remove; one after the other, in one process"},
               },
               createQueues, removeQueues};
  return run(peer, argc, argv);
}
