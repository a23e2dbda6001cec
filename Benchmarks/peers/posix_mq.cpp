// POSIX message queues, mq_overview(7): one queue per direction, mq_send and mq_receive, which sleep.
#include <mqueue.h>

#include <algorithm>

#include "driver.hpp"

using namespace peers;

static long kernelLimit(const char *name) {
  long value = 0;
  FILE *file = fopen((std::string("/proc/sys/fs/mqueue/") + name).c_str(), "r");
  if (file == nullptr || fscanf(file, "%ld", &value) != 1) peers_die("cannot read fs.mqueue.%s", name);
  fclose(file);
  return value;
}

// What the kernel allows here: fs.mqueue.msg_max and msgsize_max (10 and 8 KiB unless an administrator raised them).
// Left as they are, because a program that needs them raised is a program most machines cannot run.
static long deepest, longest;

static std::string queueName(const Job &job, const char *suffix) { return "/" + job.name + suffix; }

static long depthFor(size_t size) {
  long fits = long((512 << 10) / size);  // RLIMIT_MSGQUEUE allows a user 800 KiB in all
  return std::min({deepest, 1000L, std::max(4L, fits / 2)});
}

class QueueEnd {
 public:
  QueueEnd(Side side, Job &job) : source_(job.size), target_(job.size), size_(job.size) {
    bool producer = side == Side::producer;
    out_ = int(peers_check(mq_open(queueName(job, producer ? "-0" : "-1").c_str(), O_WRONLY), "mq_open"));
    in_ = int(peers_check(mq_open(queueName(job, producer ? "-1" : "-0").c_str(), O_RDONLY), "mq_open"));
  }

  uint8_t *source() { return source_.data(); }

  void send() { peers_check(mq_send(out_, reinterpret_cast<char *>(source_.data()), size_, 0), "mq_send"); }

  void flush() {}

  const uint8_t *receive() {
    peers_check(mq_receive(in_, reinterpret_cast<char *>(target_.data()), size_, nullptr), "mq_receive");
    return target_.data();
  }

 private:
  Buffer source_, target_;
  size_t size_;
  mqd_t out_, in_;
};

static mqd_t create(const std::string &name, long depth, long size) {
  mq_attr attributes = {};
  attributes.mq_maxmsg = depth;
  attributes.mq_msgsize = size;
  return mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
}

static void createQueues(Job &job) {
  if (job.size == 0) return;  // a case that creates its own
  for (const char *suffix : {"-0", "-1"}) {
    mqd_t queue = create(queueName(job, suffix), depthFor(job.size), long(job.size));
    peers_check(queue, "mq_open to create");
    mq_close(queue);
  }
}

static void removeQueues(Job &job) {
  for (const char *suffix : {"-0", "-1"}) mq_unlink(queueName(job, suffix).c_str());
}

static void createAndRemove(Side side, Job &job) {
  meet(job);
  std::string name = queueName(job, "-0");
  rate(side, job, [&] {
    mqd_t one = create(name, 10, 64);
    mqd_t other = mq_open(name.c_str(), O_RDONLY);
    if (one < 0 || other < 0) fail(job, "mq_open failed");
    mq_close(one);
    mq_close(other);
    mq_unlink(name.c_str());
  });
}

int main(int argc, char **argv) {
  deepest = kernelLimit("msg_max");
  longest = kernelLimit("msgsize_max");
  std::string text = "mq_send and mq_receive sleep; the kernel copies in and out; up to " +
                     std::to_string(depthFor(8)) + " messages per queue (fs.mqueue.msg_max is " +
                     std::to_string(deepest) + ")";
  const char *note = text.c_str();
  Peer peer = {"posix_mq", Placement::processes, 0,
               {
                   {"rtt_sleep_ns", 8, "", roundTrip<QueueEnd>, note},
                   {"rtt_sleep_ns", 1024, "", roundTrip<QueueEnd>, note},
                   {"rtt_sleep_onecore_ns", 8, "", roundTrip<QueueEnd>, note},
                   {"rtt_sleep_onecore_ns", 1024, "", roundTrip<QueueEnd>, note},
                   {"oneway_msgs_per_s", 8, "", oneWayMessages<QueueEnd>, note},
                   {"oneway_msgs_per_s", 64, "", oneWayMessages<QueueEnd>, note},
                   {"oneway_msgs_per_s", 1024, "", oneWayMessages<QueueEnd>, note},
                   {"oneway_msgs_per_s", 8192, "", oneWayMessages<QueueEnd>, note},
                   {"create_per_s", -1, "", createAndRemove,
                    "create (10 messages of 64 B), open a second time, close both, unlink; one after the other, in one process"},
               },
               createQueues, removeQueues};
  // A long message needs fs.mqueue.msgsize_max raised. Say nothing about sizes that cannot be sent here.
  for (long size : {65536L, 1048576L}) {
    if (size <= longest) peer.cases.push_back({"oneway_bytes_per_s", size, "", oneWayBytes<QueueEnd>, note});
  }
  return run(peer, argc, argv);
}
