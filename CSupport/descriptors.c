// Unix SOCK_SEQPACKET sockets, and packets with descriptors in them.

#define _GNU_SOURCE
#include "CSupport.h"
#include "new_descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SCM_PIDFD  // Linux 6.5
#define SCM_PIDFD 0x04
#endif

// ---- sockets --------------------------------------------------------------------------------------------------------

static const int socket_kind = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;

int csupport_socket_pair(int *first, int *second) {
  int fds[2];
  if (socketpair(AF_UNIX, socket_kind, 0, fds) < 0) return -errno;
  int one = new_descriptor(fds[0]);
  if (one < 0) return fail_closing(fds[1], -one);
  int other = new_descriptor(fds[1]);
  if (other < 0) return fail_closing(one, -other);
  *first = one;
  *second = other;
  return 0;
}

int csupport_socket_is_seqpacket(int fd) {
  int domain = 0, type = 0;
  socklen_t length = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0) {
    if (errno == ENOTSOCK) return 0;
    // Also said of a descriptor that was opened with O_PATH, which is good for nothing but is no mistake of ours.
    if (errno == EBADF && fcntl(fd, F_GETFL) >= 0) return 0;
    return -errno;
  }
  length = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0) return -errno;
  if (domain != AF_UNIX || type != SOCK_SEQPACKET) return 0;
  // A listening or fresh socket has no peer. One whose peer has gone still has a name for it.
  struct sockaddr_un peer;
  length = sizeof peer;
  if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0) return errno == ENOTCONN ? 0 : -errno;
  return 1;
}

int csupport_socket_may_reach_server(int fd) {
  // Whoever connects gets a server's name for a peer, and whoever is connected to has one.
  struct sockaddr_un name;
  socklen_t peer_length = sizeof name, own_length = sizeof name;
  if (getpeername(fd, (struct sockaddr *)&name, &peer_length) < 0) return -errno;
  if (getsockname(fd, (struct sockaddr *)&name, &own_length) < 0) return -errno;
  if (peer_length <= sizeof name.sun_family && own_length <= sizeof name.sun_family) return 0;
  int is_hung_up = csupport_socket_is_hung_up(fd);
  return is_hung_up < 0 ? is_hung_up : !is_hung_up;
}

int csupport_socket_shutdown(int fd) { return shutdown(fd, SHUT_RDWR) < 0 ? -errno : 0; }

int csupport_socket_is_hung_up(int fd) {
  struct pollfd entry = {.fd = fd, .events = POLLRDHUP, .revents = 0};
  if (poll(&entry, 1, 0) < 0) return -errno;
  if (entry.revents & POLLNVAL) return -EBADF;
  return (entry.revents & (POLLHUP | POLLRDHUP)) != 0;
}

int csupport_socket_set_send_buffer(int fd, int bytes) {
  int current = 0;
  socklen_t length = sizeof current;
  if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &current, &length) < 0) return -errno;
  // The kernel doubles what it is asked for, to allow for its own overhead, and reports the double.
  if (current / 2 >= bytes) return 0;
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) == 0) return 0;
  return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0 ? -errno : 0;
}

/// Fills in `address`; refuses the empty path, which would mean an address outside the file system.
static int make_address(const char *path, struct sockaddr_un *address) {
  size_t length = strlen(path);
  if (length == 0) return -ENOENT;
  if (length > CSUPPORT_MAX_SOCKET_PATH) return -ENAMETOOLONG;
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, length);
  return 0;
}

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == CSUPPORT_MAX_SOCKET_PATH + 1, "room for the zero");

int csupport_socket_listen(const char *path, int backlog) {
  struct sockaddr_un address;
  int result = make_address(path, &address);
  if (result < 0) return result;
  int fd = new_descriptor(socket(AF_UNIX, socket_kind, 0));
  if (fd < 0) return fd;
  // bind() gives the path the socket's own mode, less the umask: so nobody else can ever connect, and the umask,
  // which belongs to the whole process, stays as it is.
  if (fchmod(fd, 0600) < 0) return fail_closing(fd, errno);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) return fail_closing(fd, errno);
  if (listen(fd, backlog) < 0) {
    int error = errno;
    unlink(path);
    return fail_closing(fd, error);
  }
  return fd;
}

int csupport_socket_connect(const char *path) {
  struct sockaddr_un address;
  int result = make_address(path, &address);
  if (result < 0) return result;
  int fd = new_descriptor(socket(AF_UNIX, socket_kind, 0));
  if (fd < 0) return fd;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return fail_closing(fd, errno);
  return fd;
}

int csupport_socket_accept(int fd) {
  return new_descriptor(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

int csupport_socket_peer(int fd, struct csupport_credentials *credentials) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return -errno;
  *credentials = (struct csupport_credentials){.pid = peer.pid, .uid = peer.uid, .gid = peer.gid};
  return 0;
}

// ---- packets --------------------------------------------------------------------------------------------------------

ssize_t csupport_send_packet(int fd, const void *bytes, size_t byte_count, const int *fds, size_t fd_count) {
  if (byte_count == 0 || fd_count > CSUPPORT_MAX_PACKET_FDS) return -EINVAL;
  union {
    struct cmsghdr alignment;
    char room[CMSG_SPACE(CSUPPORT_MAX_PACKET_FDS * sizeof(int))];
  } control;
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = byte_count};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd_count > 0) {
    size_t fd_bytes = fd_count * sizeof(int);
    memset(control.room, 0, CMSG_SPACE(fd_bytes));  // the header, and the padding behind the last descriptor
    message.msg_control = control.room;
    message.msg_controllen = CMSG_SPACE(fd_bytes);
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fd_bytes);
    memcpy(CMSG_DATA(rights), fds, fd_bytes);
  }
  ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent < 0 ? -errno : sent;
}

/// Moves descriptors to `fds` while there is room and has the rest closed. Returns how many there were. One that cannot
/// get a number above the standard ones is closed and counts as one that did not arrive.
static size_t take_descriptors(struct cmsghdr *header, int *fds, size_t capacity, size_t *taken) {
  size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t index = 0; index < count; index += 1) {
    int fd;
    memcpy(&fd, CMSG_DATA(header) + index * sizeof fd, sizeof fd);
    fd = received_descriptor(fd);
    if (fd < 0) continue;
    if (*taken >= capacity) {
      csupport_close_elsewhere(fd);
      continue;
    }
    fds[*taken] = fd;
    *taken += 1;
  }
  return count;
}

static int receive(int fd, void *bytes, size_t capacity, int *fds, size_t fd_capacity,
                   struct csupport_received *received, int flags) {
  *received = (struct csupport_received){0};
  // Whoever made this socket may have asked for more than descriptors (SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD), and
  // the kernel stores the credentials first. They must not take the descriptors' room.
  union {
    struct cmsghdr alignment;
    char room[CMSG_SPACE(CSUPPORT_MAX_PACKET_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) +
              CMSG_SPACE(sizeof(int)) + CMSG_SPACE(256)];
  } control;
  struct iovec part = {.iov_base = bytes, .iov_len = capacity};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
  ssize_t count = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | flags);
  if (count < 0) return -errno;

  size_t sent_fds = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type == SCM_RIGHTS) {
      sent_fds += take_descriptors(header, fds, fd_capacity, &received->fd_count);
    } else if (header->cmsg_type == SCM_PIDFD) {
      size_t none = 0;
      take_descriptors(header, NULL, 0, &none);
    }
  }
  received->byte_count = (size_t)count;
  received->bytes_truncated = (message.msg_flags & MSG_TRUNC) != 0;
  received->fds_truncated = (message.msg_flags & MSG_CTRUNC) != 0 || sent_fds > received->fd_count;
  // The kernel reports the end as a packet of nothing at all.
  return count > 0 || message.msg_controllen > 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
}

int csupport_receive_packet(int fd, void *bytes, size_t capacity, int *fds, size_t fd_capacity,
                            struct csupport_received *received) {
  return receive(fd, bytes, capacity, fds, fd_capacity, received, 0);
}

int csupport_copy_packet(int fd, void *bytes, size_t capacity, int *fds, size_t fd_capacity,
                         struct csupport_received *received) {
  return receive(fd, bytes, capacity, fds, fd_capacity, received, MSG_PEEK);
}

int csupport_drop_packet(int fd) {
  // No room for anything: the kernel lets go of its own references, and no descriptor gets a number.
  struct msghdr message = {0};
  return recvmsg(fd, &message, MSG_DONTWAIT) < 0 ? -errno : 0;
}

int csupport_peek_packet(int fd, void *bytes, size_t capacity, struct csupport_received *received) {
  *received = (struct csupport_received){0};
  struct iovec part = {.iov_base = bytes, .iov_len = capacity};
  // No room for control messages: with room, the kernel would install copies of the descriptors here.
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  ssize_t count = recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK);
  if (count < 0) return -errno;
  received->byte_count = (size_t)count;
  received->bytes_truncated = (message.msg_flags & MSG_TRUNC) != 0;
  received->fds_truncated = (message.msg_flags & MSG_CTRUNC) != 0;
  return count > 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
}
