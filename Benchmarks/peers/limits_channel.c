// Limits of making a channel and of passing it to another process: the bare kernel calls, with no library around them.
//
//     A: socketpair, one end passed over an existing socket with SCM_RIGHTS, one byte awaited on the other end
//     B: asleep in recvmsg; answers one byte on the end it got, closes it
//
// In the memory variants a sealed memfd of one page goes along, is mapped on both sides, written by A, checked and
// answered in by B.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "limits.h"

#define PAGE 4096
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define IN_FLIGHT 64

// MARK: - Making

static int sealed_memory(void) {
  int fd = memfd_create("peers-limits", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0 || ftruncate(fd, PAGE) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0) peers_die("no sealed memory");
  return fd;
}

static _Atomic uint32_t *map_page(int fd) {
  void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) peers_die("cannot map the page");
  return page;
}

void make_socketpair(struct limits_run *run) {
  limits_meet(run);
  LIMITS_RATE(run, 1, {
    int pair[2];
    peers_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    close(pair[0]);
    close(pair[1]);
  });
}

void make_memfd(struct limits_run *run) {
  limits_meet(run);
  LIMITS_RATE(run, 1, close(sealed_memory()));
}

void make_memfd_mapped(struct limits_run *run) {
  limits_meet(run);
  LIMITS_RATE(run, 1, {
    int fd = sealed_memory();
    _Atomic uint32_t *page = map_page(fd);
    atomic_store(page, 1);
    munmap((void *)page, PAGE);
    close(fd);
  });
}

// MARK: - Passing

/// A channel A has made and whose answer it has not read yet.
struct passed {
  int socket;
  _Atomic uint32_t *page;  // NULL without memory
  uint32_t number;
};

static void send_descriptors(int socket, uint32_t number, const int *descriptors, size_t count) {
  struct iovec bytes = {&number, sizeof number};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(2 * sizeof(int))];
  } control;
  memset(&control, 0, sizeof control);
  struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
  if (count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(&control.header), descriptors, count * sizeof(int));
  }
  if (sendmsg(socket, &message, MSG_NOSIGNAL) != sizeof number) peers_die("sendmsg failed");
}

/// The number sent, and exactly `count` descriptors; LIMITS_LAST comes without any.
static uint32_t receive_descriptors(int socket, int *descriptors, size_t count) {
  uint32_t number;
  struct iovec bytes = {&number, sizeof number};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(2 * sizeof(int))];
  } control;
  struct msghdr message = {
      .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != sizeof number) peers_die("recvmsg failed");
  if (number == LIMITS_LAST) return number;
  if (message.msg_controllen < CMSG_LEN(count * sizeof(int)) || control.header.cmsg_type != SCM_RIGHTS ||
      control.header.cmsg_len != CMSG_LEN(count * sizeof(int))) {
    peers_die("descriptors missing");
  }
  memcpy(descriptors, CMSG_DATA(&control.header), count * sizeof(int));
  return number;
}

static struct passed pass(struct limits_run *run, uint32_t number, bool with_memory) {
  int pair[2], memory = -1;
  peers_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
  struct passed channel = {pair[0], NULL, number};
  if (with_memory) {
    memory = sealed_memory();
    channel.page = map_page(memory);
    atomic_store(channel.page, number);
  }
  send_descriptors(run->there[1], number, (int[]){pair[1], memory}, with_memory ? 2 : 1);
  close(pair[1]);
  if (with_memory) close(memory);
  return channel;
}

static void take_answer(struct passed channel) {
  uint8_t byte;
  if (read(channel.socket, &byte, 1) != 1 || byte != (uint8_t)channel.number) peers_die("wrong answer");
  if (channel.page != NULL) {
    if (atomic_load(channel.page) != ~channel.number) peers_die("wrong answer in the page");
    munmap((void *)channel.page, PAGE);
  }
  close(channel.socket);
}

static void answer(struct limits_run *run, bool with_memory) {
  limits_meet(run);
  for (int descriptors[2];;) {
    uint32_t number = receive_descriptors(run->there[0], descriptors, with_memory ? 2 : 1);
    if (number == LIMITS_LAST) return;
    if (with_memory) {
      // What a receiver has to check before it dares to map.
      struct stat status;
      if (fcntl(descriptors[1], F_GET_SEALS) != SEALS || fstat(descriptors[1], &status) != 0 || status.st_size != PAGE) {
        peers_die("memory is not what it should be");
      }
      _Atomic uint32_t *page = map_page(descriptors[1]);
      if (atomic_load(page) != number) peers_die("wrong number in the page");
      atomic_store(page, ~number);
      munmap((void *)page, PAGE);
      close(descriptors[1]);
    }
    uint8_t byte = (uint8_t)number;
    if (write(descriptors[0], &byte, 1) != 1) peers_die("cannot answer");
    close(descriptors[0]);
  }
}

static void pass_repeatedly(struct limits_run *run, uint32_t in_flight, bool with_memory) {
  struct passed open[IN_FLIGHT];
  uint32_t number = 0, taken = 0;
  limits_meet(run);
  for (; number < in_flight; number++) open[number % in_flight] = pass(run, number, with_memory);
  LIMITS_RATE(run, 1, {
    take_answer(open[taken++ % in_flight]);
    open[number % in_flight] = pass(run, number, with_memory);
    number++;
  });
  while (taken < number) take_answer(open[taken++ % in_flight]);
  send_descriptors(run->there[1], LIMITS_LAST, NULL, 0);
}

void pass_one(struct limits_run *run) { pass_repeatedly(run, 1, false); }
void pass_many(struct limits_run *run) { pass_repeatedly(run, IN_FLIGHT, false); }
void pass_answer(struct limits_run *run) { answer(run, false); }
void pass_memory_one(struct limits_run *run) { pass_repeatedly(run, 1, true); }
void pass_memory_many(struct limits_run *run) { pass_repeatedly(run, IN_FLIGHT, true); }
void pass_memory_answer(struct limits_run *run) { answer(run, true); }

// MARK: - Noticing a death

/// Starts a process that sleeps on its end of a socket pair, kills it, and records how long `notice` takes to see it.
static void notice_deaths(struct limits_run *run, void (*notice)(int socket, int process)) {
  limits_meet(run);
  uint64_t begin = peers_now_ns() + (uint64_t)(LIMITS_WARM_UP_SECONDS * 1e9);
  uint64_t end = begin + (uint64_t)(run->seconds * 1e9);
  for (uint64_t now = 0; now < end; now = peers_now_ns()) {
    int pair[2];
    uint8_t byte = 0;
    peers_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    pid_t child = peers_fork();
    if (child == 0) {
      peers_pin(run->cpus[1]);
      close(pair[0]);
      if (write(pair[1], &byte, 1) != 1) _exit(1);
      while (read(pair[1], &byte, 1) >= 0) continue;
      _exit(1);
    }
    close(pair[1]);
    int process = (int)peers_check(syscall(SYS_pidfd_open, child, 0), "pidfd_open");
    if (read(pair[0], &byte, 1) != 1) peers_die("the process did not start");
    struct timespec pause = {0, 200000};  // it sleeps by now
    nanosleep(&pause, NULL);
    uint64_t before = peers_ticks();
    kill(child, SIGKILL);
    notice(pair[0], process);
    uint64_t after = peers_ticks();
    if (now >= begin || run->shared->latency.count == 0) peers_record(&run->shared->latency, after - before);
    waitpid(child, NULL, 0);
    close(process);
    close(pair[0]);
  }
}

static void await_socket_end(int socket, int process) {
  uint8_t byte;
  (void)process;
  if (read(socket, &byte, 1) > 0) peers_die("a byte after death");
}

static void await_process_end(int socket, int process) {
  struct pollfd poller = {process, POLLIN, 0};
  (void)socket;
  if (poll(&poller, 1, -1) != 1) peers_die("poll failed");
}

void notice_socket(struct limits_run *run) { notice_deaths(run, await_socket_end); }
void notice_pidfd(struct limits_run *run) { notice_deaths(run, await_process_end); }
