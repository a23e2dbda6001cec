// The system's calls.

#include "attacker.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

bool send_packet(int socket, const void *bytes, size_t count, const int *fds, int fd_count) {
  struct iovec part = {(void *)bytes, count};
  union {
    char bytes[CMSG_SPACE(sizeof(int) * MOST_FDS)];
    struct cmsghdr aligned;
  } control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd_count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int) * fd_count), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
  }
  return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

long futex(
  _Atomic uint32_t *word, int operation, uint32_t value, long value2, _Atomic uint32_t *word2, uint32_t value3
) {
  return syscall(SYS_futex, word, operation, value, value2, word2, value3);
}

static uint64_t state = 88172645463325252;

void seed_random(uint64_t seed) { state ^= (seed + 1) * 0x9e3779b97f4a7c15; }

uint64_t below(uint64_t limit) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return limit == 0 ? 0 : state % limit;
}

static uint64_t nanoseconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t milliseconds(void) { return nanoseconds_now() / 1000000; }

void spin(uint64_t nanoseconds) {
  for (uint64_t over = nanoseconds_now() + nanoseconds; nanoseconds_now() < over;) continue;
}

void pause_microseconds(unsigned microseconds) { usleep(microseconds); }

void close_all(const int *fds, int count) {
  for (int i = 0; i < count; i++)
    if (fds[i] >= 0) close(fds[i]);
}
