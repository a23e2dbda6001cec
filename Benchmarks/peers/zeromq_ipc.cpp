// ZeroMQ over its ipc transport. As its own performance tools do: PUSH to PULL for the one-way rate (their *_thr
// pair), REQ to REP for the round trip (their *_lat pair), zmq_send and zmq_recv with caller-owned buffers.
// Each side has ZeroMQ's one I/O thread, pinned with it; so a message crosses two threads per process.
#include <zmq.h>

#include "driver.hpp"

using namespace peers;

static void check(int result, const char *call) {
  if (result < 0) peers_die("%s: %s", call, zmq_strerror(zmq_errno()));
}

// In the abstract namespace: nothing is left in the file system.
static std::string endpoint(const Job &job) { return "ipc://@" + job.name; }

template <int producerType, int consumerType>
class SocketEnd {
 public:
  SocketEnd(Side side, Job &job) : source_(job.size), target_(job.size), size_(job.size) {
    context_ = zmq_ctx_new();  // Its threads start later, and are pinned as this one is.
    socket_ = zmq_socket(context_, side == Side::producer ? producerType : consumerType);
    if (socket_ == nullptr) fail(job, "no ZeroMQ socket");
    // Close sends what is queued, but does not wait for ever for a peer that died.
    int linger = 2000;
    check(zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof linger), "ZMQ_LINGER");
    if (side == Side::consumer) {
      check(zmq_bind(socket_, endpoint(job).c_str()), "zmq_bind");
    } else {
      check(zmq_connect(socket_, endpoint(job).c_str()), "zmq_connect");  // retries until the other side is bound
    }
  }

  ~SocketEnd() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }

  uint8_t *source() { return source_.data(); }
  void send() { check(zmq_send(socket_, source_.data(), size_, 0), "zmq_send"); }
  void flush() {}

  const uint8_t *receive() {
    int received = zmq_recv(socket_, target_.data(), size_, 0);
    check(received, "zmq_recv");
    if (size_t(received) != size_) peers_die("zmq_recv: %d bytes instead of %zu", received, size_);
    return target_.data();
  }

 private:
  Buffer source_, target_;
  size_t size_;
  void *context_, *socket_;
};

using Stream = SocketEnd<ZMQ_PUSH, ZMQ_PULL>;
using Request = SocketEnd<ZMQ_REQ, ZMQ_REP>;

static void createAndClose(Side side, Job &job) {
  meet(job);
  if (side != Side::producer) return;
  void *context = zmq_ctx_new();
  int linger = 0, made = 0;
  rate(side, job, [&] {
    std::string address = endpoint(job) + "-" + std::to_string(made++);  // unbinding is asynchronous too
    void *one = zmq_socket(context, ZMQ_PAIR), *other = zmq_socket(context, ZMQ_PAIR);
    zmq_setsockopt(one, ZMQ_LINGER, &linger, sizeof linger);
    check(zmq_bind(one, address.c_str()), "zmq_bind");
    check(zmq_connect(other, address.c_str()), "zmq_connect");
    uint64_t word = 1;
    check(zmq_send(other, &word, 8, 0), "zmq_send");
    check(zmq_recv(one, &word, 8, 0), "zmq_recv");
    zmq_close(other);
    zmq_close(one);
  });
  zmq_ctx_term(context);
}

int main(int argc, char **argv) {
  const char *stream = "PUSH to PULL, default limit of 1000 messages a side; ZeroMQ batches in its I/O threads; copies: into ZeroMQ, through the kernel's socket, out of ZeroMQ";
  const char *request = "REQ to REP; each message passes both I/O threads and the kernel's socket; a side's own thread and its I/O thread share its CPU";
  Peer peer = {"zeromq_ipc", Placement::processes, 0,
               {
                   {"rtt_sleep_ns", 8, "", roundTrip<Request>, request},
                   {"rtt_sleep_ns", 1024, "", roundTrip<Request>, request},
                   {"rtt_sleep_onecore_ns", 8, "", roundTrip<Request>, request},
                   {"rtt_sleep_onecore_ns", 1024, "", roundTrip<Request>, request},
                   {"oneway_msgs_per_s", 8, "", oneWayMessages<Stream>, stream},
                   {"oneway_msgs_per_s", 64, "", oneWayMessages<Stream>, stream},
                   {"oneway_msgs_per_s", 1024, "", oneWayMessages<Stream>, stream},
                   {"oneway_msgs_per_s", 8192, "", oneWayMessages<Stream>, stream},
                   {"oneway_bytes_per_s", 65536, "", oneWayBytes<Stream>, stream},
                   {"oneway_bytes_per_s", 1048576, "", oneWayBytes<Stream>, stream},
                   {"create_per_s", -1, "", createAndClose,
                    "two PAIR sockets in one process, bind, connect, one message of 8 B (connecting is asynchronous), close both; one after the other"},
               }};
  return run(peer, argc, argv);
}
