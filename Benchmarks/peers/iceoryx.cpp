// Eclipse iceoryx (the C++ one, version 2): one publisher and one subscriber per direction, untyped, no history,
// the publisher made to wait for a full subscriber so that nothing is dropped. Its daemon RouDi is started before the
// first figure and stopped after the last.
//
// iceoryx hands over pointers. For the comparison with what copies, the sender copies every byte into the loaned chunk and the
// receiver copies every byte out before it releases it; `inplace_bytes_per_s` is what it is made for: written into the
// chunk, and read there.
#include <fcntl.h>
#include <grp.h>
#include <iceoryx_hoofs/log/logmanager.hpp>
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/popo/wait_set.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>
#include <poll.h>

#include <optional>

#include "driver.hpp"

using namespace peers;

/// 256 is as deep as the packaged iceoryx goes; long messages have fewer, in the pools of `configuration` below.
static uint64_t queueCapacity(size_t size) { return size <= 8192 ? 256 : size <= 65536 ? 16 : 4; }

static const char *configuration = R"([general]
version = 1
[[segment]]
[[segment.mempool]]
size = 64
count = 2000
[[segment.mempool]]
size = 1024
count = 2000
[[segment.mempool]]
size = 8192
count = 600
[[segment.mempool]]
size = 65536
count = 64
[[segment.mempool]]
size = 1048576
count = 20
)";

static iox::capro::IdString_t idString(const std::string &text) {
  return iox::capro::IdString_t(iox::cxx::TruncateToCapacity, text.c_str());
}

template <bool sleeps>
class IceoryxEnd {
 public:
  IceoryxEnd(Side side, Job &job) : source_(job.size), target_(job.size), size_(uint32_t(job.size)) {
    bool producer = side == Side::producer;
    std::string name = job.name + (producer ? "-producer" : "-consumer");
    iox::runtime::PoshRuntime::initRuntime(iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name.c_str()));

    iox::popo::PublisherOptions sending;
    sending.historyCapacity = 0;
    sending.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
    iox::popo::SubscriberOptions receiving;
    receiving.queueCapacity = queueCapacity(job.size);
    receiving.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
    iox::capro::ServiceDescription there("peers", idString(job.name), "there"), back("peers", idString(job.name), "back");
    publisher_.emplace(producer ? there : back, sending);
    subscriber_.emplace(producer ? back : there, receiving);
    while (!publisher_->hasSubscribers() || subscriber_->getSubscriptionState() != iox::SubscribeState::SUBSCRIBED) {
      usleep(1000);
    }
    if (sleeps) {
      waitSet_.emplace();
      waitSet_->attachState(*subscriber_, iox::popo::SubscriberState::HAS_DATA).or_else([&](auto &) {
        fail(job, "the wait set does not take the subscriber");
      });
    }
  }

  uint8_t *source() { return source_.data(); }

  void send() {
    for (;;) {
      auto loan = publisher_->loan(size_);
      if (loan.has_error()) continue;  // all chunks are with the other side
      memcpy(loan.value(), source_.data(), size_);
      publisher_->publish(loan.value());
      return;
    }
  }

  void flush() {}

  uint8_t *lend() {
    for (;;) {
      auto loan = publisher_->loan(size_);
      if (loan.has_error()) continue;  // all chunks are with the other side
      chunk_ = loan.value();
      return static_cast<uint8_t *>(chunk_);
    }
  }

  void commit() { publisher_->publish(chunk_); }

  const uint8_t *take() {
    for (;;) {
      auto taken = subscriber_->take();
      if (!taken.has_error()) {
        taken_ = taken.value();
        return static_cast<const uint8_t *>(taken_);
      }
      peers_relax();
    }
  }

  void release() { subscriber_->release(taken_); }

  const uint8_t *receive() {
    for (;;) {
      auto taken = subscriber_->take();
      if (!taken.has_error()) {
        memcpy(target_.data(), taken.value(), size_);
        subscriber_->release(taken.value());
        return target_.data();
      }
      if (sleeps) {
        waitSet_->wait();
      } else {
        peers_relax();
      }
    }
  }

 private:
  Buffer source_, target_;
  uint32_t size_;
  void *chunk_ = nullptr;
  const void *taken_ = nullptr;
  std::optional<iox::popo::UntypedPublisher> publisher_;
  std::optional<iox::popo::UntypedSubscriber> subscriber_;
  std::optional<iox::popo::WaitSet<>> waitSet_;  // declared last: detached before the subscriber goes
};

/// What the runtime of a side leaves behind if it was killed.
static void removeSockets(Job &job) {
  for (const char *suffix : {"-producer", "-consumer"}) {
    std::string path = "/tmp/" + job.name + suffix;
    unlink(path.c_str());
    unlink((path + ".lock").c_str());
  }
}

// MARK: - RouDi

static pid_t roudi, supervisor;
static char configurationPath[] = "/tmp/peers-roudi-XXXXXX";

static void stopRoudi() {
  if (getpid() != supervisor) return;  // a side that exits
  if (roudi > 0) {
    kill(roudi, SIGTERM);  // it removes its shared memory, unless a side was killed: then it aborts
    if (peers_await(&roudi, 1, 10, nullptr) != nullptr) {
      peers_kill(roudi);
      shm_unlink("/iceoryx_mgmt");
      shm_unlink((std::string("/") + getgrgid(getegid())->gr_name).c_str());  // the data, named after the group
      for (const char *path : {"/tmp/roudi", "/tmp/roudi.lock", "/tmp/iox-unique-roudi.lock"}) unlink(path);
    }
  }
  unlink(configurationPath);
}

static void startRoudi() {
  supervisor = getpid();
  int file = mkstemp(configurationPath);
  if (file < 0 || write(file, configuration, strlen(configuration)) < 0) peers_die("cannot write RouDi's configuration");
  close(file);
  atexit(stopRoudi);

  int output[2];
  peers_check(pipe2(output, O_CLOEXEC), "pipe2");
  roudi = peers_fork();
  if (roudi == 0) {
    dup2(output[1], STDOUT_FILENO);
    dup2(output[1], STDERR_FILENO);
    // Monitoring off: a side that spins or is stopped must not be taken for dead. At its end it waits one second, not
    // 45, for sides that were killed.
    execlp("iox-roudi", "iox-roudi", "-c", configurationPath, "-m", "off", "-k", "1", "-l", "error", nullptr);
    peers_die("cannot start iox-roudi");
  }
  close(output[1]);
  std::string text;
  uint64_t deadline = peers_now_ns() + 10000000000u;
  while (text.find("ready for clients") == std::string::npos) {
    pollfd ready = {output[0], POLLIN, 0};
    char bytes[512];
    ssize_t count = poll(&ready, 1, 1000) > 0 ? read(output[0], bytes, sizeof bytes) : -1;
    if (count == 0 || peers_now_ns() > deadline) {
      fprintf(stderr, "RouDi did not start: %s\n", text.c_str());
      exit(1);
    }
    if (count > 0) text.append(bytes, size_t(count));
  }
  fcntl(output[0], F_SETFL, O_NONBLOCK);  // kept open: closing it would end RouDi at its next line
}

int main(int argc, char **argv) {
  const char *spinning = "loan, write every byte, publish; take in a loop, copy every byte out, release; queue of 256 chunks (16 at 64 KiB, 4 at 1 MiB), publisher waits for a full queue";
  const char *sleeping = "loan, write every byte, publish; WaitSet, take, copy every byte out, release; both sides sleep";
  const char *lent = "loan, each word written into the chunk, publish; take in a loop, all words added up there, release; nothing copied; queue of 256 chunks (16 at 64 KiB, 4 at 1 MiB), publisher waits for a full queue";
  Peer peer = {"iceoryx", Placement::processes, 0,
               {
                   {"rtt_poll_ns", 8, "", roundTrip<IceoryxEnd<false>>, spinning},
                   {"rtt_poll_ns", 64, "", roundTrip<IceoryxEnd<false>>, spinning},
                   {"rtt_poll_ns", 256, "", roundTrip<IceoryxEnd<false>>, spinning},
                   {"rtt_poll_ns", 1024, "", roundTrip<IceoryxEnd<false>>, spinning},
                   {"rtt_poll_ns", 8192, "", roundTrip<IceoryxEnd<false>>, spinning},
                   {"rtt_poll_ns", 65536, "", roundTrip<IceoryxEnd<false>>, spinning},
                   {"rtt_sleep_ns", 8, "", roundTrip<IceoryxEnd<true>>, sleeping},
                   {"rtt_sleep_ns", 1024, "", roundTrip<IceoryxEnd<true>>, sleeping},
                   {"rtt_sleep_onecore_ns", 8, "", roundTrip<IceoryxEnd<true>>, sleeping},
                   {"rtt_sleep_onecore_ns", 1024, "", roundTrip<IceoryxEnd<true>>, sleeping},
                   {"oneway_msgs_per_s", 8, "", oneWayMessages<IceoryxEnd<false>>, spinning},
                   {"oneway_msgs_per_s", 64, "", oneWayMessages<IceoryxEnd<false>>, spinning},
                   {"oneway_msgs_per_s", 1024, "", oneWayMessages<IceoryxEnd<false>>, spinning},
                   {"oneway_msgs_per_s", 8192, "", oneWayMessages<IceoryxEnd<false>>, spinning},
                   {"oneway_bytes_per_s", 65536, "", oneWayBytes<IceoryxEnd<false>>, spinning},
                   {"oneway_bytes_per_s", 1048576, "", oneWayBytes<IceoryxEnd<false>>, spinning},
                   {"inplace_bytes_per_s", 1024, "", inPlace<IceoryxEnd<false>>, lent},
                   {"inplace_bytes_per_s", 8192, "", inPlace<IceoryxEnd<false>>, lent},
                   {"inplace_bytes_per_s", 65536, "", inPlace<IceoryxEnd<false>>, lent},
                   {"inplace_bytes_per_s", 1048576, "", inPlace<IceoryxEnd<false>>, lent},
               },
               nullptr, removeSockets};
  iox::log::LogManager::GetLogManager().SetDefaultLogLevel(iox::log::LogLevel::kError, iox::log::LogLevelOutput::kHideLogLevel);
  peers_block_signals();
  startRoudi();
  return run(peer, argc, argv);
}
