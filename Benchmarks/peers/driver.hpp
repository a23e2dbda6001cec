// The two measurements that every C++ peer shares, and the supervisor that runs them.
//
// A peer supplies one type per way of using it, an End: one side's end of a two-way connection.
//
//     End(Side side, Job &job)      opens this side; both sides exist and are pinned
//     uint8_t *source()             where the next message is to be written: job.size bytes, kept between calls
//     void send()                   hands that message over; its bytes are copied into the peer's memory
//     void flush()                  nothing may stay behind in a batch
//     const uint8_t *receive()      the next message, copied out into this side's memory
//
// Whether `send` and `receive` spin or sleep is the End's business; the deadline is the supervisor's.
//
// The loops are compiled for 8 bytes apart from all others, and for each size of an End that knows its own:
//
//     static constexpr size_t messageSize       every message is as long
//     void sendWord(uint64_t)                   if that is 8: a message in a register
//     uint64_t receiveWord()
//
// A peer that takes many messages with one call has an End for that, see `runsOneWay`.
//
//     supervisor ── forks ──> producer, pinned to the first CPU   (pinger)
//                └─ forks ──> consumer, pinned to the second CPU  (answerer)
//
// The supervisor runs none of the measured code, so it can always clean up after either side.
#pragma once

#include "common.h"

#include <sys/mman.h>

#include <atomic>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace peers {

enum class Side { producer, consumer };
enum class Placement { processes, threads, launched };

/// What the two sides and the supervisor share. Zero-filled by the kernel.
struct Control {
  alignas(128) std::atomic<uint32_t> sidesReady;
  std::atomic<uint32_t> sidesDone;
  alignas(128) std::atomic<uint32_t> stop;  // the consumer's word to the producer
  alignas(128) double value;                // of a rate
  bool isLatency;
  peers_histogram latency;
  peers_usage spent[2];  // by the producer and by the consumer, the warm-up included
  uint64_t messages;     // in that time; 0: nobody counted
  char error[200];
};

struct Job {
  Control *control;
  size_t size;
  double seconds;
  int cpus[2];
  void *shared;      // Peer::sharedBytes of memory mapped by both sides
  std::string name;  // no other run on this machine has it
  bool areThreads = false;  // both sides are in one process
};

using Body = void (*)(Side, Job &);

struct Case {
  const char *metric;
  long size;
  const char *variant;
  Body body;
  const char *note;
};

struct Peer {
  const char *who;
  Placement placement;
  size_t sharedBytes;
  std::vector<Case> cases;
  void (*prepare)(Job &) = nullptr;                       // in the supervisor, before the sides exist
  void (*cleanUp)(Job &) = nullptr;                       // in the supervisor, after both are gone; also after failures
  pid_t (*launch)(Job &, size_t caseIndex) = nullptr;     // Placement::launched: starts both sides, as one child
};

[[noreturn]] inline void fail(Job &job, const char *why) {
  snprintf(job.control->error, sizeof job.control->error, "%s", why);
  fprintf(stderr, "%s\n", why);
  _exit(1);
}

/// Both sides are open and pinned before either starts. Yields, because both may be on one CPU.
inline void meet(Job &job) {
  job.control->sidesReady.fetch_add(1);
  while (job.control->sidesReady.load() < 2) sched_yield();
}

/// Neither side closes before both are done: ZeroMQ, for one, drops what a closed connection still holds.
inline void part(Job &job) {
  job.control->sidesDone.fetch_add(1);
  while (job.control->sidesDone.load() < 2) usleep(100);
}

/// Adds up what a side spends from here on until it says `end`, its helper threads included.
class Spending {
 public:
  Spending(Side side, Job &job) : job_(job), index_(side == Side::producer ? 0 : 1), begin_(peers_usage_now(job.areThreads)) {}

  /// `messages`: how many went there, or there and back; from the one side that counts them.
  void end(uint64_t messages = 0) {
    job_.control->spent[index_] = peers_usage_since(begin_, job_.areThreads);
    if (messages > 0) job_.control->messages = messages;
  }

 private:
  Job &job_;
  int index_;
  peers_usage begin_;
};

// MARK: - Messages

// | sequence: 8 | body: a pattern | sequence again, mixed: 8 |     8-byte messages are the sequence alone.
// The consumer checks both ends of every message and the body of one in 256, so a run that loses, repeats, reorders
// or tears messages ends without a figure.

constexpr uint64_t lastMessage = uint64_t(1) << 63;
constexpr uint64_t tailMix = 0x9e3779b97f4a7c15;

inline void fillPattern(uint8_t *message, size_t size) {
  for (size_t i = 0; i < size; i++) message[i] = uint8_t(i * 131 + 7);
}

[[gnu::always_inline]] inline void stamp(uint8_t *message, size_t size, uint64_t sequence) {
  uint64_t tail = sequence ^ tailMix;
  if (size >= 16) memcpy(message + size - 8, &tail, 8);
  memcpy(message, &sequence, 8);
}

class Checker {
 public:
  Checker(Job &job) : job_(job), pattern_(job.size) { fillPattern(pattern_.data(), job.size); }

  /// The sequence number of a message that is whole and is the one expected next. `size` is the job's.
  [[gnu::always_inline]] uint64_t check(const uint8_t *message, size_t size, uint64_t expected) {
    asm volatile("" : : "r"(message) : "memory");  // The copy must happen, though most of it is never looked at.
    uint64_t sequence, tail;
    memcpy(&sequence, message, 8);
    if ((sequence & ~lastMessage) != expected) fail(job_, "a message is missing, repeated or out of order");
    if (size >= 16) {
      memcpy(&tail, message + size - 8, 8);
      if (tail != (sequence ^ tailMix)) fail(job_, "the end of a message is not its own");
      if (expected % 256 == 0 && memcmp(message + 8, pattern_.data() + 8, size - 16) != 0) {
        fail(job_, "the body of a message is damaged");
      }
    }
    return sequence;
  }

 private:
  Job &job_;
  std::vector<uint8_t> pattern_;
};

/// Where private buffers begin in a page. Messages in a ring begin elsewhere: between equal offsets a load looks to the
/// processor as if it overlapped a store that is still in flight. The same offset on both sides of every comparison.
constexpr size_t bufferOffset = 1024 + 64;

/// A message to send again and again, for an End whose `send` copies it out before it returns.
class Buffer {
 public:
  explicit Buffer(size_t size) : memory_(static_cast<uint8_t *>(aligned_alloc(4096, (size + 2 * 4096) / 4096 * 4096))) {
    fillPattern(data(), size);
  }
  ~Buffer() { free(memory_); }
  Buffer(const Buffer &) = delete;
  uint8_t *data() { return memory_ + bufferOffset; }

 private:
  uint8_t *memory_;
};

constexpr double warmUpSeconds = 0.1;

// MARK: - What an End knows when it is compiled

template <class End, class = void>
constexpr size_t knownSize = 0;
template <class End>
constexpr size_t knownSize<End, std::void_t<decltype(End::messageSize)>> = End::messageSize;

template <class End, class = void>
constexpr bool takesWords = false;
template <class End>
constexpr bool takesWords<End, std::void_t<decltype(&End::receiveWord)>> = knownSize<End> == 8;

// MARK: - One way

/// When the consumer counts: from the end of the warm-up, for as long as is to be measured. Timed where messages arrive: one
/// counts once its bytes are copied out and checked.
class Arrivals {
 public:
  Arrivals(Job &job) : job_(job), next_(peers_ticks() + peers_ticks_in(warmUpSeconds)) {}

  /// Looks at the clock. At the end of the measured time, it tells the producer to stop.
  [[gnu::always_inline]] void look(uint64_t received) {
    uint64_t now = peers_ticks();
    if (now >= next_) advance(now, received);
  }

  double perSecond() const { return double(counted_) / (double(until_ - begin_) * peers_ns_per_tick / 1e9); }

 private:
  [[gnu::noinline]] void advance(uint64_t now, uint64_t received) {
    if (begin_ == 0) {
      begin_ = now;
      counted_ = received;
      next_ = now + peers_ticks_in(job_.seconds);
    } else if (until_ == 0) {
      until_ = now;
      counted_ = received - counted_;
      next_ = UINT64_MAX;
      job_.control->stop.store(1, std::memory_order_relaxed);
    }
  }

  Job &job_;
  uint64_t next_, begin_ = 0, until_ = 0, counted_ = 0;
};

inline bool isTold(Job &job) { return job.control->stop.load(std::memory_order_relaxed) != 0; }

template <class End>
[[gnu::noinline]] void produce(End &end, Job &job, size_t size) {
  uint64_t mask = size <= 1024 ? 63 : 0, sequence = 0;
  do {
    stamp(end.source(), size, sequence++);
    end.send();
  } while ((sequence & mask) != 0 || !isTold(job));
  stamp(end.source(), size, sequence | lastMessage);
  end.send();
  end.flush();
}

template <class End>
[[gnu::noinline]] uint64_t consume(End &end, Job &job, Arrivals &arrivals, size_t size) {
  Checker checker(job);
  uint64_t mask = size <= 1024 ? 63 : 0;
  for (uint64_t expected = 0;;) {
    if (checker.check(end.receive(), size, expected) & lastMessage) return expected;
    if ((++expected & mask) == 0) arrivals.look(expected);
  }
}

template <class End>
[[gnu::noinline]] void produceWords(End &end, Job &job) {
  uint64_t sequence = 0;
  do end.sendWord(sequence++);
  while (sequence % 64 != 0 || !isTold(job));
  end.sendWord(sequence | lastMessage);
}

template <class End>
[[gnu::noinline]] uint64_t consumeWords(End &end, Job &job, Arrivals &arrivals) {
  for (uint64_t expected = 0;;) {
    uint64_t sequence = end.receiveWord();
    if (sequence != expected) {
      if (sequence != (expected | lastMessage)) fail(job, "a message is missing, repeated or out of order");
      return expected;
    }
    if (++expected % 64 == 0) arrivals.look(expected);
  }
}

/// As many messages as the pair manages.
template <class End>
void oneWay(Side side, Job &job, bool countsBytes) {
  End end(side, job);
  meet(job);
  Spending spending(side, job);
  if (side == Side::producer) {
    if constexpr (takesWords<End>) produceWords(end, job);
    else if constexpr (knownSize<End> != 0) produce(end, job, knownSize<End>);
    else if (job.size == 8) produce(end, job, 8);
    else produce(end, job, job.size);
    spending.end();
    part(job);
    return;
  }
  Arrivals arrivals(job);
  uint64_t received;
  if constexpr (takesWords<End>) received = consumeWords(end, job, arrivals);
  else if constexpr (knownSize<End> != 0) received = consume(end, job, arrivals, knownSize<End>);
  else if (job.size == 8) received = consume(end, job, arrivals, 8);
  else received = consume(end, job, arrivals, job.size);
  spending.end(received);
  part(job);
  job.control->value = arrivals.perSecond() * (countsBytes ? double(job.size) : 1);
}

template <class End>
void oneWayMessages(Side side, Job &job) { oneWay<End>(side, job, false); }

template <class End>
void oneWayBytes(Side side, Job &job) { oneWay<End>(side, job, true); }

// MARK: - One way, many messages with one call

/// An End for `runsOneWay` has, beside its constructor and its size:
///
///     static constexpr size_t runLength
///     uint8_t *outgoing()                room for so many messages in a row, filled with the pattern
///     size_t sendRun(size_t from, size_t count)    hands some of them over, and says how many
///     size_t receiveRun()                how many have come, which are copied out to
///     const uint8_t *incoming()
///
/// Only the producer and the consumer of one direction: nothing comes back.
template <class End>
void runsOneWay(Side side, Job &job) {
  constexpr size_t size = End::messageSize;
  End end(side, job);
  meet(job);
  Spending spending(side, job);
  if (side == Side::producer) {
    auto send = [&](size_t count) {
      for (size_t sent = 0; sent < count;) {
        size_t taken = end.sendRun(sent, count - sent);
        if (taken == 0) peers_relax();
        sent += taken;
      }
    };
    uint64_t sequence = 0;
    while (!isTold(job)) {
      for (size_t i = 0; i < End::runLength; i++) stamp(end.outgoing() + i * size, size, sequence + i);
      send(End::runLength);
      sequence += End::runLength;
    }
    stamp(end.outgoing(), size, sequence | lastMessage);
    send(1);
    spending.end();
    part(job);
    return;
  }
  Arrivals arrivals(job);
  Checker checker(job);
  uint64_t expected = 0, sequence = 0;
  while ((sequence & lastMessage) == 0) {
    size_t count = end.receiveRun();
    if (count == 0) peers_relax();
    for (size_t i = 0; i < count; i++) {
      sequence = checker.check(end.incoming() + i * size, size, expected);
      if (sequence & lastMessage) break;
      if (++expected % 64 == 0) arrivals.look(expected);
    }
  }
  spending.end(expected);
  part(job);
  job.control->value = arrivals.perSecond();
}

// MARK: - Round trip

template <class End>
[[gnu::noinline]] void answer(End &end, Job &job, size_t size) {
  Checker checker(job);
  for (uint64_t expected = 0;; expected++) {
    uint64_t sequence = checker.check(end.receive(), size, expected);
    if (sequence & lastMessage) return;
    stamp(end.source(), size, sequence);
    end.send();
    end.flush();
  }
}

template <class End>
[[gnu::noinline]] uint64_t ask(End &end, Job &job, size_t size) {
  Checker checker(job);
  auto histogram = &job.control->latency;
  uint64_t sequence = 0, before = peers_ticks();
  uint64_t begin = before + peers_ticks_in(warmUpSeconds), until = begin + peers_ticks_in(job.seconds);
  while (before < until) {
    stamp(end.source(), size, sequence);
    end.send();
    end.flush();
    checker.check(end.receive(), size, sequence);
    uint64_t after = peers_ticks();
    if (before >= begin) peers_record(histogram, after - before);
    before = after;
    sequence++;
  }
  stamp(end.source(), size, sequence | lastMessage);
  end.send();
  end.flush();
  return sequence;
}

template <class End>
[[gnu::noinline]] void answerWords(End &end, Job &job) {
  for (uint64_t expected = 0;; expected++) {
    uint64_t sequence = end.receiveWord();
    if (sequence != expected) {
      if (sequence != (expected | lastMessage)) fail(job, "a message is missing, repeated or out of order");
      return;
    }
    end.sendWord(sequence);
  }
}

template <class End>
[[gnu::noinline]] uint64_t askWords(End &end, Job &job) {
  auto histogram = &job.control->latency;
  uint64_t sequence = 0, before = peers_ticks();
  uint64_t begin = before + peers_ticks_in(warmUpSeconds), until = begin + peers_ticks_in(job.seconds);
  while (before < until) {
    end.sendWord(sequence);
    if (end.receiveWord() != sequence) fail(job, "a wrong answer");
    uint64_t after = peers_ticks();
    if (before >= begin) peers_record(histogram, after - before);
    before = after;
    sequence++;
  }
  end.sendWord(sequence | lastMessage);
  return sequence;
}

/// One message there, the same message back, one at a time. Both sides copy in, copy out and check.
template <class End>
void roundTrip(Side side, Job &job) {
  End end(side, job);
  meet(job);
  Spending spending(side, job);
  if (side == Side::consumer) {
    if constexpr (takesWords<End>) answerWords(end, job);
    else if constexpr (knownSize<End> != 0) answer(end, job, knownSize<End>);
    else if (job.size == 8) answer(end, job, 8);
    else answer(end, job, job.size);
    spending.end();
    part(job);
    return;
  }
  uint64_t asked;
  if constexpr (takesWords<End>) asked = askWords(end, job);
  else if constexpr (knownSize<End> != 0) asked = ask(end, job, knownSize<End>);
  else if (job.size == 8) asked = ask(end, job, 8);
  else asked = ask(end, job, job.size);
  job.control->isLatency = true;
  spending.end(asked);
  part(job);
}

/// The cases of a peer whose two sides always sleep.
template <class End>
std::vector<Case> messageCases(const char *note) {
  std::vector<Case> cases;
  for (const char *metric : {"rtt_sleep_ns", "rtt_sleep_onecore_ns"}) {
    for (long size : {8L, 1024L}) cases.push_back({metric, size, "", roundTrip<End>, note});
  }
  for (long size : {8L, 64L, 1024L, 8192L}) cases.push_back({"oneway_msgs_per_s", size, "", oneWayMessages<End>, note});
  for (long size : {65536L, 1048576L}) cases.push_back({"oneway_bytes_per_s", size, "", oneWayBytes<End>, note});
  return cases;
}

// MARK: - Written and read where it lies

/// An End that lends: messages are written where they will be read, and read where they were written.
///
///     uint8_t *lend()           memory for the next message, job.size bytes
///     void commit()             hands it over
///     const uint8_t *take()     the next message
///     void release()            gives its memory back
///
/// The last message is told by this: the highest bit would not show in a sum of an even number of words.
constexpr uint64_t lastInPlace = uint64_t(1) << 40;

template <class End>
void inPlace(Side side, Job &job) {
  End end(side, job);
  meet(job);
  Spending spending(side, job);
  uint64_t mask = job.size <= 1024 ? 63 : 0, sequence = 0;
  if (side == Side::producer) {
    do {
      peers_fill_words(end.lend(), job.size, sequence++);
      end.commit();
    } while ((sequence & mask) != 0 || !isTold(job));
    peers_fill_words(end.lend(), job.size, sequence + lastInPlace);
    end.commit();
    spending.end();
    part(job);
    return;
  }
  Arrivals arrivals(job);
  for (;;) {
    uint64_t sum = peers_sum_words(end.take(), job.size);
    end.release();
    if (sum != peers_expected_sum(job.size, sequence)) {
      if (sum != peers_expected_sum(job.size, sequence + lastInPlace)) fail(job, "a message is missing or damaged");
      break;
    }
    if ((++sequence & mask) == 0) arrivals.look(sequence);
  }
  spending.end(sequence);
  part(job);
  job.control->value = arrivals.perSecond() * double(job.size);
}

// MARK: - Rate of one side's own work

/// Calls `work` for the measured time. For figures such as channels created per second, which need one side only.
template <class Work>
void rate(Side side, Job &job, Work work) {
  if (side != Side::producer) return;
  for (uint64_t end = peers_ticks() + peers_ticks_in(warmUpSeconds); peers_ticks() < end;) work();
  uint64_t count = 0, begin = peers_ticks(), now = begin;
  for (uint64_t end = begin + peers_ticks_in(job.seconds); now < end; now = peers_ticks(), count++) work();
  job.control->value = double(count) / (double(now - begin) * peers_ns_per_tick / 1e9);
}

// MARK: - Supervisor

inline void runSide(Side side, Job job, Body body) {
  peers_pin(job.cpus[side == Side::producer ? 0 : 1]);
  body(side, job);
}

inline void *mapShared(size_t bytes) {
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) peers_die("cannot map %zu bytes", bytes);
  return memory;
}

/// Runs one case and prints its line. Returns whether there is a figure.
inline bool runCase(const Peer &peer, size_t index, const peers_options &options, Control *control, Job job) {
  const Case &measured = peer.cases[index];
  bool oneCore = strstr(measured.metric, "onecore") != nullptr;
  bool latency = strstr(measured.metric, "_ns") != nullptr;
  if (oneCore) job.cpus[1] = job.cpus[0];
  memset(static_cast<void *>(control), 0, sizeof *control);
  job.areThreads = peer.placement == Placement::threads;
  double probes[2] = {peers_bounce(options.cpus[0], options.cpus[1]), 0};
  if (peer.prepare) peer.prepare(job);

  pid_t spinners[2] = {0, 0};
  if (options.awake) {
    spinners[0] = peers_start_spinner(job.cpus[0]);
    if (job.cpus[1] != job.cpus[0]) spinners[1] = peers_start_spinner(job.cpus[1]);
  }
  pid_t children[2] = {0, 0};
  uint64_t waited = peers_waited_us(), began = peers_now_ns();
  switch (peer.placement) {
    case Placement::processes:
      for (int i = 0; i < 2; i++) {
        children[i] = peers_fork();
        if (children[i] != 0) continue;
        runSide(i == 0 ? Side::producer : Side::consumer, job, measured.body);
        exit(0);
      }
      break;
    case Placement::threads:
      children[0] = peers_fork();
      if (children[0] == 0) {
        std::thread producer(runSide, Side::producer, job, measured.body);
        std::thread consumer(runSide, Side::consumer, job, measured.body);
        producer.join();
        consumer.join();
        exit(0);
      }
      break;
    case Placement::launched:
      children[0] = peer.launch(job, index);
      break;
  }
  long preempted = 0;
  const char *why = peers_await(children, 2, options.seconds * 2 + 10, &preempted);
  double pressure = double(peers_waited_us() - waited) * 1e3 / double(peers_now_ns() - began);
  for (pid_t child : children) {
    if (child > 0 && peer.placement == Placement::launched) {  // A launcher gets the chance to end what it started.
      kill(child, SIGTERM);
      if (peers_await(&child, 1, 3, nullptr) == nullptr) continue;
    }
    peers_kill(child);
  }
  for (pid_t spinner : spinners) peers_kill(spinner);
  if (peer.cleanUp) peer.cleanUp(job);
  probes[1] = peers_bounce(options.cpus[0], options.cpus[1]);

  std::string note = measured.note;
  if (measured.size >= 0) {
    note += peer.placement == Placement::threads ? "; two threads of one process" : "; two processes";
  }
  const char *unit = latency ? "ns" : strstr(measured.metric, "bytes") ? "B/s" : "1/s";
  peers_figure figure = {peer.who, "peer", measured.metric, measured.variant, measured.size, control->value, unit,
                         note.c_str(), job.cpus, options.awake, control->isLatency ? &control->latency : nullptr,
                         preempted, pressure, {probes[0], probes[1]}, control->messages,
                         {control->spent[0], control->spent[1]}};
  if (why == nullptr && !(control->isLatency ? control->latency.count > 0 : control->value > 0)) why = "no figure came back";
  if (why == nullptr) {
    peers_print(&figure);
  } else {
    peers_print_failure(&figure, control->error[0] ? control->error : why);
  }
  if (why != nullptr && strcmp(why, "interrupted") == 0) exit(130);
  return why == nullptr;
}

/// The whole program: every case the options ask for, in order. Exit status 1 if any ended without a figure.
inline int run(const Peer &peer, int argc, char **argv, Control *control = nullptr) {
  peers_options options = peers_parse(argc, argv);
  peers_block_signals();
  peers_calibrate();
  if (control == nullptr) control = static_cast<Control *>(mapShared(sizeof(Control)));
  bool allWell = true;
  for (size_t i = 0; i < peer.cases.size(); i++) {
    const Case &measured = peer.cases[i];
    if (!peers_wanted(&options, measured.metric, measured.size)) continue;
    Job job = {control, size_t(measured.size < 0 ? 0 : measured.size), options.seconds,
               {options.cpus[0], options.cpus[1]}, nullptr,
               "peers-" + std::to_string(getpid()) + "-" + std::to_string(i)};
    if (peer.sharedBytes > 0) job.shared = mapShared(peer.sharedBytes);
    allWell &= runCase(peer, i, options, control, job);
    if (job.shared != nullptr) munmap(job.shared, peer.sharedBytes);
  }
  return allWell ? 0 : 1;
}

}  // namespace peers
