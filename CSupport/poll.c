// Waiting for descriptors: epoll, and the descriptors that exist to be waited for.

#define _GNU_SOURCE
#include "CSupport.h"
#include "new_descriptor.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

_Static_assert((uint32_t)CSUPPORT_EVENT_IN == (uint32_t)EPOLLIN, "");
_Static_assert((uint32_t)CSUPPORT_EVENT_OUT == (uint32_t)EPOLLOUT, "");
_Static_assert((uint32_t)CSUPPORT_EVENT_ERR == (uint32_t)EPOLLERR, "");
_Static_assert((uint32_t)CSUPPORT_EVENT_HUP == (uint32_t)EPOLLHUP, "");
_Static_assert((uint32_t)CSUPPORT_EVENT_EDGE == (uint32_t)EPOLLET, "");

enum { MAX_EVENTS = 256 };

int csupport_epoll_create(void) {
  return new_descriptor(epoll_create1(EPOLL_CLOEXEC));
}

int csupport_epoll_add(int epoll, int fd, uint32_t events, uint64_t token) {
  struct epoll_event event = {.events = events | EPOLLRDHUP, .data.u64 = token};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int csupport_epoll_remove(int epoll, int fd) {
  return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

/// epoll_pwait2 came with Linux 5.11; kernels before, and sandboxes that know only those, refuse it.
static atomic_bool has_no_pwait2;

static int wait_for_nanoseconds(int epoll, struct epoll_event *ready, int capacity, int64_t timeout_ns) {
  // Relaxed: whoever does not know yet asks once more.
  if (!atomic_load_explicit(&has_no_pwait2, memory_order_relaxed)) {
    const struct timespec limit = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    const int count = epoll_pwait2(epoll, ready, capacity, &limit, NULL);
    if (count >= 0 || (errno != ENOSYS && errno != EPERM && errno != EACCES)) return count;
    atomic_store_explicit(&has_no_pwait2, true, memory_order_relaxed);
  }
  // The older form counts milliseconds: rounded up, so that the wait does not end before its time.
  const int64_t milliseconds = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
  return epoll_wait(epoll, ready, capacity, milliseconds > INT_MAX ? INT_MAX : (int)milliseconds);
}

int csupport_epoll_wait(int epoll, struct csupport_event *events, int capacity, int64_t timeout_ns) {
  // Not the caller's array: on x86 the kernel's struct is packed, which Swift cannot see.
  struct epoll_event ready[MAX_EVENTS];
  if (capacity > MAX_EVENTS) capacity = MAX_EVENTS;
  const int count = timeout_ns > 0 ? wait_for_nanoseconds(epoll, ready, capacity, timeout_ns)
                                   : epoll_wait(epoll, ready, capacity, timeout_ns < 0 ? -1 : 0);
  if (count < 0) return -errno;
  for (int index = 0; index < count; index += 1) {
    // Whoever has said that it sends no more is as good as gone.
    const uint32_t found = ready[index].events, hung_up = (found & EPOLLRDHUP) != 0 ? EPOLLHUP : 0;
    events[index] = (struct csupport_event){.token = ready[index].data.u64, .events = (found & ~EPOLLRDHUP) | hung_up};
  }
  return count;
}

int csupport_wait_readable(int fd, int64_t timeout_ns) {
  struct pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  struct timespec limit = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
  int count = ppoll(&entry, 1, timeout_ns < 0 ? NULL : &limit, NULL);
  return count < 0 ? -errno : count;
}

int csupport_eventfd_create(void) {
  return new_descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

int csupport_eventfd_signal(int fd) {
  // EAGAIN: the counter is at its limit, so the descriptor is readable already.
  return eventfd_write(fd, 1) < 0 && errno != EAGAIN ? -errno : 0;
}

int csupport_eventfd_drain(int fd) {
  eventfd_t count;
  return eventfd_read(fd, &count) < 0 && errno != EAGAIN ? -errno : 0;
}
