// nanomsg over its Unix sockets: a PAIR, the protocol that does the least, nn_send and nn_recv with buffers of the caller's.
// Its worker thread starts in each side, on that side's CPU.
#include <nanomsg/ipc.h>
#include <nanomsg/nn.h>
#include <nanomsg/pair.h>

#include "driver.hpp"

using namespace peers;

static int check(int result, const char *call) {
  if (result < 0) peers_die("%s: %s", call, nn_strerror(nn_errno()));
  return result;
}

static std::string path(const Job &job) { return "/tmp/" + job.name; }

class PairEnd {
 public:
  PairEnd(Side side, Job &job) : source_(job.size), target_(job.size), size_(job.size) {
    std::string address = "ipc://" + path(job);
    socket_ = check(nn_socket(AF_SP, NN_PAIR), "nn_socket");
    set(NN_SOL_SOCKET, NN_RCVMAXSIZE, -1);
    set(NN_SOL_SOCKET, NN_RECONNECT_IVL, 5);
    set(NN_SOL_SOCKET, NN_SNDBUF, 1 << 20);
    set(NN_SOL_SOCKET, NN_RCVBUF, 1 << 20);
    if (side == Side::consumer) {
      check(nn_bind(socket_, address.c_str()), "nn_bind");
    } else {
      check(nn_connect(socket_, address.c_str()), "nn_connect");  // tries until the other side is bound
    }
  }

  ~PairEnd() { nn_close(socket_); }

  uint8_t *source() { return source_.data(); }
  void send() { check(nn_send(socket_, source_.data(), size_, 0), "nn_send"); }
  void flush() {}

  const uint8_t *receive() {
    int received = check(nn_recv(socket_, target_.data(), size_, 0), "nn_recv");
    if (size_t(received) != size_) peers_die("nn_recv: %d bytes instead of %zu", received, size_);
    return target_.data();
  }

 private:
  void set(int level, int option, int value) {
    check(nn_setsockopt(socket_, level, option, &value, sizeof value), "nn_setsockopt");
  }

  Buffer source_, target_;
  size_t size_;
  int socket_;
};

static void removeSocket(Job &job) { unlink(path(job).c_str()); }

int main(int argc, char **argv) {
  const char *note = "PAIR, buffers of 1 MiB a side; copies: into nanomsg, through the kernel's socket, out of nanomsg; a side's own thread and nanomsg's share its CPU";
  Peer peer = {"nanomsg", Placement::processes, 0, messageCases<PairEnd>(note), nullptr, removeSocket};
  return run(peer, argc, argv);
}
