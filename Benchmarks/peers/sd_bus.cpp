// D-Bus as sd-bus speaks it, from process to process over a socket pair, without a daemon in between, which would double
// everything. Each message is a signal that holds an array of bytes: nobody answers it, which is the least that D-Bus does.
#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include "driver.hpp"

using namespace peers;

static int pair[2] = {-1, -1};

static int check(int result, const char *call) {
  if (result < 0) peers_die("%s: %s", call, strerror(-result));
  return result;
}

class BusEnd {
 public:
  BusEnd(Side side, Job &job) : source_(job.size), target_(job.size), size_(job.size) {
    bool isServer = side == Side::consumer;
    close(pair[isServer ? 0 : 1]);
    int socket = pair[isServer ? 1 : 0];
    check(sd_bus_new(&bus_), "sd_bus_new");
    check(sd_bus_set_fd(bus_, socket, socket), "sd_bus_set_fd");
    if (isServer) {
      sd_id128_t identifier;
      check(sd_id128_randomize(&identifier), "sd_id128_randomize");
      check(sd_bus_set_server(bus_, 1, identifier), "sd_bus_set_server");
    }
    check(sd_bus_set_anonymous(bus_, 1), "sd_bus_set_anonymous");
    check(sd_bus_start(bus_), "sd_bus_start");
  }

  ~BusEnd() { sd_bus_flush_close_unref(bus_); }

  uint8_t *source() { return source_.data(); }

  void send() {
    sd_bus_message *message = nullptr;
    check(sd_bus_message_new_signal(bus_, &message, "/peer", "peers.Peer", "Message"), "sd_bus_message_new_signal");
    check(sd_bus_message_append_array(message, 'y', source_.data(), size_), "sd_bus_message_append_array");
    check(sd_bus_send(bus_, message, nullptr), "sd_bus_send");
    sd_bus_message_unref(message);
    if (++unflushed_ % 64 == 0) flush();  // What does not fit the socket is queued without limit.
  }

  void flush() { check(sd_bus_flush(bus_), "sd_bus_flush"); }

  const uint8_t *receive() {
    for (;;) {
      sd_bus_message *message = nullptr;
      int progress = check(sd_bus_process(bus_, &message), "sd_bus_process");
      if (message != nullptr) {
        const void *bytes = nullptr;
        size_t received = 0;
        check(sd_bus_message_read_array(message, 'y', &bytes, &received), "sd_bus_message_read_array");
        if (received != size_) peers_die("sd-bus: %zu bytes instead of %zu", received, size_);
        memcpy(target_.data(), bytes, size_);
        sd_bus_message_unref(message);
        return target_.data();
      }
      if (progress == 0) check(sd_bus_wait(bus_, UINT64_MAX), "sd_bus_wait");
    }
  }

 private:
  Buffer source_, target_;
  size_t size_;
  uint64_t unflushed_ = 0;
  sd_bus *bus_ = nullptr;
};

static void openPair(Job &) { peers_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "socketpair"); }

static void closePair(Job &) {
  close(pair[0]);
  close(pair[1]);
}

int main(int argc, char **argv) {
  const char *note = "signals with an array of bytes, from process to process, no daemon; flushed every 64; copies: into a message, through the kernel's socket, out of a message";
  Peer peer = {"sd_bus", Placement::processes, 0, messageCases<BusEnd>(note), openPair, closePair};
  return run(peer, argc, argv);
}
