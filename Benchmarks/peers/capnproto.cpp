// Cap'n Proto's RPC over a Unix socket in the abstract namespace: a call for each round trip; one way, calls of a method
// that streams, 64 at once (4 of 64 KiB and more) and then as its flow control lets them pass. One thread and one event loop a side, which sleep.
#include <capnp/ez-rpc.h>
#include <kj/async-io.h>
#include <kj/vector.h>

#include "capnproto.capnp.h"
#include "driver.hpp"

using namespace peers;

static std::string address(const Job &job) { return "unix-abstract:" + job.name; }

class ExchangeServer final : public Exchange::Server {
 public:
  ExchangeServer(Job &job, kj::Own<kj::PromiseFulfiller<void>> done)
      : job_(job), source_(job.size), target_(job.size), checker_(job), done_(kj::mv(done)) {}

  kj::Promise<void> call(CallContext context) override {
    uint64_t sequence = take(context.getParams().getValue());
    stamp(source_.data(), job_.size, sequence);
    memcpy(context.getResults().initValue(unsigned(job_.size)).begin(), source_.data(), job_.size);
    return kj::READY_NOW;
  }

  kj::Promise<void> pass(PassContext context) override {
    if (arrivals_ == nullptr) arrivals_.reset(new Arrivals(job_));
    take(context.getParams().getValue());
    if (job_.size > 1024 || expected_ % 64 == 0) arrivals_->look(expected_);
    return kj::READY_NOW;
  }

  uint64_t received() const { return expected_; }
  double perSecond() const { return arrivals_->perSecond(); }

 private:
  uint64_t take(capnp::Data::Reader value) {
    if (value.size() != job_.size) peers_die("Cap'n Proto: %zu bytes instead of %zu", value.size(), job_.size);
    memcpy(target_.data(), value.begin(), job_.size);
    uint64_t sequence = checker_.check(target_.data(), job_.size, expected_);
    if (sequence & lastMessage) done_->fulfill();
    else expected_++;
    return sequence;
  }

  Job &job_;
  Buffer source_, target_;
  Checker checker_;
  uint64_t expected_ = 0;
  std::unique_ptr<Arrivals> arrivals_;
  kj::Own<kj::PromiseFulfiller<void>> done_;
};

static void runFor(kj::AsyncIoProvider &provider, kj::WaitScope &scope, int milliseconds) {
  provider.getTimer().afterDelay(milliseconds * kj::MILLISECONDS).wait(scope);
}

/// Serves until the last message is there.
static void serve(Job &job, bool isOneWay, bool countsBytes) {
  auto done = kj::newPromiseAndFulfiller<void>();
  auto server = kj::heap<ExchangeServer>(job, kj::mv(done.fulfiller));
  ExchangeServer &counts = *server;
  capnp::EzRpcServer listener(kj::mv(server), address(job));
  auto &scope = listener.getWaitScope();
  listener.getPort().wait(scope);
  meet(job);
  Spending spending(Side::consumer, job);
  done.promise.wait(scope);
  spending.end(isOneWay ? counts.received() : 0);
  if (isOneWay) job.control->value = counts.perSecond() * (countsBytes ? double(job.size) : 1);
  runFor(listener.getIoProvider(), scope, 50);  // the last answer is on its way
  part(job);
}

static void roundTrips(Side side, Job &job) {
  if (side == Side::consumer) return serve(job, false, false);
  meet(job);
  capnp::EzRpcClient client(address(job));
  auto &scope = client.getWaitScope();
  auto exchange = client.getMain<Exchange>();
  exchange.whenResolved().wait(scope);  // Calls made before are queued here, without a window.
  Buffer source(job.size), target(job.size);
  Checker checker(job);
  auto ask = [&](uint64_t sequence, uint64_t expected) {
    stamp(source.data(), job.size, sequence);
    auto request = exchange.callRequest();
    memcpy(request.initValue(unsigned(job.size)).begin(), source.data(), job.size);
    auto response = request.send().wait(scope);
    if (response.getValue().size() != job.size) fail(job, "an answer of another size");
    memcpy(target.data(), response.getValue().begin(), job.size);
    checker.check(target.data(), job.size, expected);
  };
  Spending spending(side, job);
  uint64_t sequence = 0, before = peers_ticks();
  uint64_t begin = before + peers_ticks_in(warmUpSeconds), until = begin + peers_ticks_in(job.seconds);
  while (before < until) {
    ask(sequence, sequence);
    uint64_t after = peers_ticks();
    if (before >= begin) peers_record(&job.control->latency, after - before);
    before = after;
    sequence++;
  }
  job.control->isLatency = true;
  spending.end(sequence);
  ask(sequence | lastMessage, sequence);
  part(job);
}

static void oneWays(Side side, Job &job, bool countsBytes) {
  if (side == Side::consumer) return serve(job, true, countsBytes);
  meet(job);
  capnp::EzRpcClient client(address(job));
  auto &scope = client.getWaitScope();
  auto exchange = client.getMain<Exchange>();
  exchange.whenResolved().wait(scope);  // Calls made before are queued here, without a window.
  Buffer source(job.size);
  // Several calls at once: to wait for each would be a round trip for each.
  size_t atOnce = job.size <= 8192 ? 64 : 4;
  kj::Vector<kj::Promise<void>> sent;
  auto pass = [&](uint64_t sequence) {
    stamp(source.data(), job.size, sequence);
    auto request = exchange.passRequest();
    memcpy(request.initValue(unsigned(job.size)).begin(), source.data(), job.size);
    sent.add(request.send());
    if (sent.size() < atOnce && (sequence & lastMessage) == 0) return;
    kj::joinPromises(sent.releaseAsArray()).wait(scope);
    sent = kj::Vector<kj::Promise<void>>();
  };
  Spending spending(side, job);
  uint64_t mask = job.size <= 1024 ? 63 : 0, sequence = 0;
  do pass(sequence++);
  while ((sequence & mask) != 0 || !isTold(job));
  pass(sequence | lastMessage);
  spending.end();
  runFor(client.getIoProvider(), scope, 50);
  part(job);
}

static void messagesOneWay(Side side, Job &job) { oneWays(side, job, false); }
static void bytesOneWay(Side side, Job &job) { oneWays(side, job, true); }

int main(int argc, char **argv) {
  const char *call = "a call with bytes and its answer with bytes, over a Unix socket; copies: into the message, through the kernel's socket, out of the message";
  const char *pass = "calls of a method that streams, 64 at once (4 of 64 KiB and more), with the window of Cap'n Proto's flow control; copies: into the message, through the kernel's socket, out of the message";
  Peer peer = {"capnproto", Placement::processes, 0, {}};
  for (const char *metric : {"rtt_sleep_ns", "rtt_sleep_onecore_ns"}) {
    for (long size : {8L, 1024L}) peer.cases.push_back({metric, size, "", roundTrips, call});
  }
  for (long size : {8L, 64L, 1024L, 8192L}) peer.cases.push_back({"oneway_msgs_per_s", size, "", messagesOneWay, pass});
  for (long size : {65536L, 1048576L}) peer.cases.push_back({"oneway_bytes_per_s", size, "", bytesOneWay, pass});
  return run(peer, argc, argv);
}
