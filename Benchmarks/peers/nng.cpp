// nng over its Unix sockets, in the abstract namespace: a PAIR, the protocol that does the least, nng_send and nng_recv with
// buffers of the caller's. Its threads start in each side, on that side's CPU.
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

#include "driver.hpp"

using namespace peers;

static void check(int result, const char *call) {
  if (result != 0) peers_die("%s: %s", call, nng_strerror(result));
}

class PairEnd {
 public:
  PairEnd(Side side, Job &job) : source_(job.size), target_(job.size), size_(job.size) {
    std::string address = "abstract://" + job.name;
    check(nng_pair0_open(&socket_), "nng_pair0_open");
    check(nng_socket_set_size(socket_, NNG_OPT_RECVMAXSZ, 0), "NNG_OPT_RECVMAXSZ");
    check(nng_socket_set_int(socket_, NNG_OPT_SENDBUF, 128), "NNG_OPT_SENDBUF");
    check(nng_socket_set_int(socket_, NNG_OPT_RECVBUF, 128), "NNG_OPT_RECVBUF");
    check(nng_socket_set_ms(socket_, NNG_OPT_RECONNMINT, 5), "NNG_OPT_RECONNMINT");
    if (side == Side::consumer) {
      check(nng_listen(socket_, address.c_str(), nullptr, 0), "nng_listen");
    } else {
      check(nng_dial(socket_, address.c_str(), nullptr, NNG_FLAG_NONBLOCK), "nng_dial");  // tries until the other listens
    }
  }

  ~PairEnd() { nng_close(socket_); }

  uint8_t *source() { return source_.data(); }
  void send() { check(nng_send(socket_, source_.data(), size_, 0), "nng_send"); }
  void flush() {}

  const uint8_t *receive() {
    size_t received = size_;
    check(nng_recv(socket_, target_.data(), &received, 0), "nng_recv");
    if (received != size_) peers_die("nng_recv: %zu bytes instead of %zu", received, size_);
    return target_.data();
  }

 private:
  Buffer source_, target_;
  size_t size_;
  nng_socket socket_;
};

int main(int argc, char **argv) {
  const char *note = "PAIR, queues of 128 messages a side; copies: into nng, through the kernel's socket, out of nng; a side's own thread and nng's share its CPU";
  Peer peer = {"nng", Placement::processes, 0, messageCases<PairEnd>(note)};
  return run(peer, argc, argv);
}
