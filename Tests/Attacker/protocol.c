// The protocol, as far as an attacker keeps to it.

#include "attacker.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>

// MARK: - Memory

enum { NO_EXECUTION = 8 };  // MFD_NOEXEC_SEAL

int make_memory(unsigned flags, off_t bytes, int seals, uint64_t capacity) {
  int fd = memfd_create("attack", MFD_CLOEXEC | MFD_ALLOW_SEALING | NO_EXECUTION | flags);
  if (fd < 0 && errno == EINVAL) fd = memfd_create("attack", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
  if (fd < 0) return -1;
  uint64_t identity[3] = {CHANNEL_MAGIC, VERSION, capacity};
  if (ftruncate(fd, bytes) == 0 && bytes >= PAGE) (void)!pwrite(fd, identity, sizeof identity, 0);
  if (seals != 0) fcntl(fd, F_ADD_SEALS, seals);
  return fd;
}

static bool open_end(struct end *end, int socket, int memory, int number) {
  uint64_t identity[3] = {0, 0, 0};
  (void)!pread(memory, identity, sizeof identity, 0);
  *end = (struct end){.socket = socket, .memory = memory, .number = number, .capacity = identity[2]};
  end->mapped = (DATA + 2 * end->capacity + PAGE - 1) / PAGE * PAGE;
  void *page = mmap(NULL, end->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (page == MAP_FAILED) {
    close(socket);
    close(memory);
    return false;
  }
  end->page = page;
  return true;
}

void let_go(struct end *end) {
  if (end->page != NULL) munmap(end->page, end->mapped);
  close(end->socket);
  close(end->memory);
  end->page = NULL;
}

// MARK: - Connections

int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

bool say_hello(int socket, const uint64_t words[4], const int *fds, int fd_count) {
  return send_packet(socket, words, 32, fds, fd_count);
}

/// Waits for a packet, for at most a second. Its bytes, or -1.
static ssize_t receive(int socket, void *bytes, size_t count, int fds[], int *fd_count) {
  struct pollfd watched = {socket, POLLIN, 0};
  if (poll(&watched, 1, 1000) <= 0) return -1;
  struct iovec part = {bytes, count};
  union {
    char bytes[CMSG_SPACE(sizeof(int) * MOST_FDS)];
    struct cmsghdr aligned;
  } control;
  struct msghdr message = {
    .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t result = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  *fd_count = 0;
  if (result < 0) return -1;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    *fd_count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(header), sizeof(int) * (size_t)*fd_count);
  }
  return result;
}

bool meet(struct end *end, const char *path, uint64_t capacity) {
  int socket = connect_to(path);
  if (socket < 0) return false;
  int memory = make_memory(0, (off_t)(DATA + 2 * capacity + PAGE - 1) / PAGE * PAGE, SEALED, capacity);
  uint64_t hello[4] = {HELLO_MAGIC, VERSION, UINT64_MAX, 1 << 30}, answer[2];
  int fds[MOST_FDS], fd_count;
  if (memory < 0 || !say_hello(socket, hello, &memory, 1)
      || receive(socket, answer, sizeof answer, fds, &fd_count) != sizeof answer || answer[1] >> 32 != 0) {
    close(socket);
    if (memory >= 0) close(memory);
    return false;
  }
  return open_end(end, socket, memory, 0);
}

int take_ports(struct end *connection, struct end ports[], int most) {
  static uint64_t words[1 + 16 * MOST_PORTS];
  int fds[MOST_FDS], fd_count;
  for (;;) {
    ssize_t bytes = receive(connection->socket, words, sizeof words, fds, &fd_count);
    if (bytes <= 0) return 0;
    if (bytes == 1) continue;  // a doorbell
    int count = (int)(words[0] >> 32), taken = 0;
    // Fresh ports, so there are two descriptors for each.
    for (int i = 0; i < count && 2 * i + 1 < fd_count; i++) {
      if (taken == most) {
        close_all(fds + 2 * i, 2);
      } else if (open_end(&ports[taken], fds[2 * i], fds[2 * i + 1], (int)(words[1 + 16 * i] & 1))) {
        taken++;
      }
    }
    return taken;
  }
}

// MARK: - Records

static uint8_t *lane_data(const struct end *end) { return end->page + DATA + (uint64_t)end->number * end->capacity; }

bool has_room(const struct end *end, uint32_t bytes) {
  uint64_t taken = end->position - atomic_load(released(end, end->number));
  // A pad may be in the way, which is as long as the record at most.
  return taken + 2 * (8 + (uint64_t)bytes + 7) + KEPT_FREE <= end->capacity;
}

static void commit(const struct end *end, uint64_t offset, uint64_t header) {
  atomic_store_explicit((_Atomic uint64_t *)(lane_data(end) + offset), header, memory_order_release);
}

void put(struct end *end, int kind, uint16_t high, const void *payload, uint32_t bytes) {
  uint64_t needed = 8 + (bytes + 7) / 8 * 8, offset = end->position % end->capacity;
  if (offset + needed + 8 > end->capacity) {
    uint64_t rest = end->capacity - offset;
    commit(end, 0, 0);
    commit(end, offset, (rest - 8) | (uint64_t)PAD << 32);
    end->position += rest;
    offset = 0;
  }
  if (bytes > 0) memcpy(lane_data(end) + offset + 8, payload, bytes);
  commit(end, offset + needed, 0);
  commit(end, offset, bytes | (uint64_t)kind << 32 | (uint64_t)high << 40);
  end->position += needed;
}

void signal_victim(struct end *end) {
  _Atomic uint32_t *word = doorbell(end, end->number, MESSAGE_DOORBELL);
  atomic_thread_fence(memory_order_seq_cst);
  uint32_t said = atomic_load(word);
  if (said != ASLEEP_ON_WORD && said != ASLEEP_ON_SOCKET) return;
  if (!atomic_compare_exchange_strong(word, &said, AWAKE)) return;
  if (said == ASLEEP_ON_WORD) futex(word, FUTEX_WAKE, INT_MAX, 0, NULL, 0);
  else send_packet(end->socket, "\1", 1, NULL, 0);
}

void signal_anyway(struct end *end) {
  futex(doorbell(end, end->number, MESSAGE_DOORBELL), FUTEX_WAKE, INT_MAX, 0, NULL, 0);
  futex(doorbell(end, 1 - end->number, SPACE_DOORBELL), FUTEX_WAKE, INT_MAX, 0, NULL, 0);
  send_packet(end->socket, "\1", 1, NULL, 0);
}

bool post(struct end *end, const void *payload, uint32_t bytes) {
  for (int i = 0; !has_room(end, bytes); i++) {
    if (i == 100) return false;
    signal_anyway(end);
    pause_microseconds(200);
  }
  put(end, MESSAGE, 0, payload, bytes);
  signal_victim(end);
  return true;
}

// MARK: - Ports

bool make_gift(struct gift *gift, struct end *ours) {
  int sockets[2], memory = make_memory(0, PAGE, SEALED, LANE_CAPACITY);
  if (memory < 0) return false;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) < 0) {
    close(memory);
    return false;
  }
  *gift = (struct gift){
    .words = {1, UINT64_MAX, 1 << 30, 0, LANE_CAPACITY, 0, 0, 0, 0, LANE_CAPACITY, 0, 0, 0, 0, 0, 0},
    .fds = {sockets[1], fcntl(memory, F_DUPFD_CLOEXEC, 3)}};
  if (open_end(ours, sockets[0], memory, 0)) return true;
  close_all(gift->fds, 2);
  return false;
}

bool send_gifts(int socket, struct gift gifts[], int count, int parts) {
  static uint64_t words[1 + 16 * MOST_PORTS];
  int fds[1 + 2 * MOST_PORTS], fd_count = 0;
  words[0] = PORTS_MAGIC | (uint64_t)count << 32;
  if (parts >= 0) fds[fd_count++] = parts;
  for (int i = 0; i < count; i++) {
    memcpy(words + 1 + 16 * i, gifts[i].words, sizeof gifts[i].words);
    for (int j = 0; j < 2; j++)
      if (gifts[i].fds[j] >= 0) fds[fd_count++] = gifts[i].fds[j];
  }
  bool isSent = send_packet(socket, words, 8 + 128 * (size_t)count, fds, fd_count);
  close_all(fds, fd_count);
  return isSent;
}

bool give(struct end *end, struct gift gifts[], int count, uint16_t announced, int parts) {
  for (int i = 0; i < 50 && !has_room(end, 8); i++) {
    signal_anyway(end);
    pause_microseconds(200);
  }
  if (!has_room(end, 8)) {
    for (int i = 0; i < count; i++) close_all(gifts[i].fds, 2);
    close_all(&parts, 1);
    return false;
  }
  // A connection's message begins with the length of its name, and a port's may begin with anything.
  put(end, MESSAGE, announced, "\0\0", 2);
  bool isSent = send_gifts(end->socket, gifts, count, parts);
  if (!isSent) put(end, WITHDRAWAL, 0, NULL, 0);
  signal_victim(end);
  return isSent;
}

bool give_descriptors(struct end *end, uint16_t announced, uint32_t claimed, const int *fds, int count) {
  for (int i = 0; i < 50 && !has_room(end, 8); i++) {
    signal_anyway(end);
    pause_microseconds(200);
  }
  if (!has_room(end, 8)) return false;
  put(end, MESSAGE, announced, "\0\0", 2);
  const uint64_t header = PORTS_MAGIC | (uint64_t)(claimed & 255) << 32 | (uint64_t)(claimed >> 8) << 48;  // the buffers, too
  bool isSent = send_packet(end->socket, &header, 8, fds, count);
  if (!isSent) put(end, WITHDRAWAL, 0, NULL, 0);
  signal_victim(end);
  return isSent;
}
