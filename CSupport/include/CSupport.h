#ifndef CSUPPORT_H
#define CSUPPORT_H

// The kernel, for Swift: one thin function per thing we ask of it. No policy, no printing. Of the two global variables, one is
// a fact about the processor, found out when the program is loaded, and one changes in a forked child only.
//
// Every function returns a value >= 0, or -errno; none of them leaves anything in errno for the caller. None retries
// on EINTR: the one Swift function that calls them decides. Every descriptor that is made or received is close-on-exec
// and above the standard ones, even if the program has closed those.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ring_layout.h"

// ---- processor -----------------------------------------------------------------------------------------------------

/// Tells the core that this is a spin loop.
static inline void csupport_cpu_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#else
#error "csupport_cpu_relax: unknown architecture"
#endif
}

/// A full fence: no earlier store may be ordered after a later load. On x86-64 a locked addition to the stack is
/// several times cheaper than MFENCE and orders the same for ordinary memory.
static inline void csupport_store_load_fence(void) {
#if defined(__x86_64__)
  __asm__ volatile("lock; addl $0, -4(%%rsp)" ::: "memory", "cc");
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/// Keeps the compiler from moving memory accesses across; costs nothing at run time.
static inline void csupport_compiler_barrier(void) { __asm__ volatile("" ::: "memory"); }

/// Whether the processor has fast string operations ("ERMS"). Found out when the program is loaded.
extern bool csupport_has_fast_strings;

/// From here on a string operation beats a loop: it writes whole lines without fetching first what the other core has
/// in them, which is a third of the cost of a message. It takes a while to get going.
#define CSUPPORT_FAST_STRING_BYTES 768

/// What a copy touches, the sanitizers do not see in assembly.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CSUPPORT_COPIES_VISIBLY 1
#endif
#endif

/// Copies into or out of a ring: as memcpy, with the sizes of messages in mind. The two must not overlap.
static inline void csupport_copy(void *target, const void *source, size_t bytes) {
  char *to = (char *)target;
  const char *from = (const char *)source;
  if (bytes <= 64 && bytes >= 8) {
    // Overlapping pieces, and no call: for so little, that is a good part of the time.
    if (bytes < 16) {
      __builtin_memcpy(to, from, 8);
      __builtin_memcpy(to + bytes - 8, from + bytes - 8, 8);
      return;
    }
    __builtin_memcpy(to, from, 16);
    if (bytes > 32) {
      __builtin_memcpy(to + 16, from + 16, 16);
      __builtin_memcpy(to + bytes - 32, from + bytes - 32, 16);
    }
    __builtin_memcpy(to + bytes - 16, from + bytes - 16, 16);
    return;
  }
#if defined(__x86_64__) && !defined(CSUPPORT_COPIES_VISIBLY)
  if (bytes >= CSUPPORT_FAST_STRING_BYTES && csupport_has_fast_strings) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
    return;
  }
#endif
  __builtin_memcpy(to, from, bytes);
}

/// Nanoseconds of CLOCK_MONOTONIC.
uint64_t csupport_monotonic_ns(void);

/// What an errno means, for messages: "Too many open files" for EMFILE, "unknown error" for what is none. Never null;
/// valid for ever.
const char *csupport_error_name(int error);

// ---- fork.c: which process this is ----------------------------------------------------------------------------------

/// Do not use: see csupport_process_mark(). Changed by no thread but a new process's first.
extern uint32_t csupport_process_mark_word;
/// By how much marks differ. A mark has two zero bits.
enum { CSUPPORT_PROCESS_MARK_STEP = 4 };
/// A number that differs from that of each process that this one was forked from, without an exec. One load.
///
/// In such a child, what the library had open and mapped is gone by the time fork() returns: descriptors stand for a
/// socket without another end, mappings are private memory. Objects that have another mark than this are not its own.
static inline uint32_t csupport_process_mark(void) {
  return __atomic_load_n(&csupport_process_mark_word, __ATOMIC_RELAXED);
}

// ---- futex.c: sleeping on 32-bit words ------------------------------------------------------------------------------------

// A word that processes share.

/// Sleeps while `*word == expected`. `timeout_ns` < 0: without limit.
/// 0 woken (perhaps spuriously), -EAGAIN the word differed, -ETIMEDOUT, -EINTR.
int csupport_futex_wait(const void *word, uint32_t expected, int64_t timeout_ns);
/// Wakes every waiter. Returns how many there were.
int csupport_futex_wake_all(void *word);

// A word that is this process's own: no other process can wake its waiters, or move them to another word.

/// As csupport_futex_wait().
int csupport_private_wait(const void *word, uint32_t expected, int64_t timeout_ns);
/// As csupport_futex_wake_all().
int csupport_private_wake_all(void *word);
/// Wakes one waiter, if there is one.
int csupport_private_wake_one(void *word);
/// Sleeps on both kinds at once, while `*shared == expected` and `*own == ticket`: one system call from Linux 5.16 on.
/// Where there is no such call, or it is refused, the thread sleeps on the shared word and looks at the private one every
/// 50 ms. `timeout_ns` and the result as in csupport_futex_wait().
int csupport_futex_wait_either(
    const void *shared, uint32_t expected, const void *own, uint32_t ticket, int64_t timeout_ns);

// ---- membarrier: an asymmetric fence ---------------------------------------------------------------------------------

/// Registers this process: from then on, another process's csupport_membarrier_global() is a full fence here too.
/// With more than one thread it takes milliseconds. Not inherited through exec.
int csupport_membarrier_register(void);
/// Full fence on every running thread of every registered process. Microseconds; interrupts their processors.
int csupport_membarrier_global(void);
/// 1 if the kernel has both commands, 0 if not.
int csupport_membarrier_is_available(void);

// ---- memory.c: memory that two processes map -------------------------------------------------------------------------

/// New memfd of `bytes` without any seal but the one on its mode. Its memory is not reserved. `name` is for people who read
/// /proc/<pid>/maps. -EFBIG as below.
int csupport_memory_create(const char *name, uint64_t bytes);
/// New memfd of `bytes`, sealed against shrinking and against further seals. It may still grow. Its memory is not
/// reserved. -EFBIG as below.
int csupport_memory_create_sealed(uint64_t bytes);
/// New file of `bytes` where shm_open has its own, without a name, its space reserved. Cannot be sealed.
int csupport_memory_create_unlinked(uint64_t bytes);
/// Makes [offset, offset + bytes) exist and reserves its memory, growing the file if need be (fallocate).
/// -EFBIG if RLIMIT_FSIZE forbids it (checked first: the kernel would send SIGXFSZ); -ENOSPC, -ENOMEM; -EINTR.
///
/// This and the next three say -EACCES (or 0) of a descriptor that was opened read-only or with O_PATH, where the kernel
/// says EBADF: a peer may have sent it, so it is not a mistake of the caller's.
int csupport_memory_reserve(int fd, uint64_t offset, uint64_t bytes);
/// Gives the pages of [offset, offset + bytes) back; they read as zero afterwards. The size stays.
int csupport_memory_discard(int fd, uint64_t offset, uint64_t bytes);
/// The same, of so much that it takes milliseconds, later and elsewhere: nothing may be written there any more.
int csupport_memory_discard_elsewhere(int fd, uint64_t offset, uint64_t bytes);
/// 1 if `fd` is sealed against shrinking, 0 if it is not (or cannot be sealed at all).
int csupport_memory_is_shrink_sealed(int fd);
/// Maps [offset, offset + bytes) for reading and writing, shared. In a forked child, private memory, all zero, is in its
/// place; of a channel's first pages, the doorbells say that the other end sleeps.
int csupport_memory_map(int fd, uint64_t offset, size_t bytes, void **address);
/// All of what csupport_memory_map() has mapped, or what it has become in a forked child.
int csupport_memory_unmap(void *address, size_t bytes);

struct csupport_file_facts {
  uint64_t device;
  uint64_t inode;
  uint64_t size_bytes;
  uint64_t allocated_bytes;
  bool is_regular;
};
/// Of a descriptor of one's own: what a peer sent may lie in a file system that takes for ever to answer.
int csupport_file_facts(int fd, struct csupport_file_facts *facts);

enum {
  CSUPPORT_MEMORY_FOREIGN = 0,
  /// As csupport_memory_create_sealed() makes it: it will not shrink, and takes no more seals.
  CSUPPORT_MEMORY_SEALED = 1,
  /// As csupport_memory_create_unlinked() makes it: it may shrink.
  CSUPPORT_MEMORY_UNSEALED = 2,
};
/// What a descriptor is that anybody may have sent, with its facts unless it is foreign. Never blocks: asks a file system
/// only once it is known to be the kernel's own memory. Sealed memory is no shorter than `facts` says, for good.
int csupport_memory_inspect(int fd, struct csupport_file_facts *facts);
/// What a descriptor is sealed against that anybody may have sent; -EINVAL if it is no memory, or cannot be read and written.
/// Never blocks.
int csupport_memory_seals(int fd);
/// The facts of something that has seals: 1, or 0 if it is not of the usual pages, or -errno.
int csupport_memory_facts(int fd, struct csupport_file_facts *facts);
/// Reads from memory without mapping it: a hole takes no page, and a page that cannot be had is an error and no signal.
ssize_t csupport_memory_read(int fd, uint64_t offset, void *bytes, size_t byte_count);

// ---- residency.c: memory that is there before it is touched, and stays ------------------------------------------------------

/// Takes and maps each page of a shared mapping, for writing. -ENOMEM also where touching it would be a signal; -EINTR.
int csupport_memory_fault_in(void *address, size_t bytes);
/// Keeps the pages of a mapping, which it takes first, from being written to swap space. After an error, nothing is locked;
/// `*limit` is RLIMIT_MEMLOCK if that was the reason, else UINT64_MAX. -EAGAIN: some could not be had.
int csupport_memory_lock(void *address, size_t bytes, uint64_t *limit);
/// The opposite; unmapping does the same.
int csupport_memory_unlock(void *address, size_t bytes);

// ---- buffers.c: memory that travels in messages -------------------------------------------------------------------------

/// New memfd of `bytes`, whose size is sealed. Its memory is not reserved. Nobody else has it. -EFBIG as above.
int csupport_buffer_create(uint64_t bytes);
/// Seals it for good, against writing as well. -EBUSY: it is mapped for writing somewhere, or the kernel writes into it on
/// somebody's behalf (io_uring, asynchronous reads); the kernel waits some 150 ms for that before it says so.
int csupport_buffer_freeze(int fd);
/// Seals it for good, so that all may write.
int csupport_buffer_share(int fd);

enum {
  CSUPPORT_BUFFER_FOREIGN = 0,
  /// As csupport_buffer_freeze() leaves it: neither its bytes nor its size change any more, whoever has it.
  CSUPPORT_BUFFER_FROZEN = 1,
  /// As csupport_buffer_share() leaves it: its size does not change.
  CSUPPORT_BUFFER_SHARED = 2,
};
/// What a descriptor is that anybody may have sent, with its facts unless it is foreign. Never blocks.
int csupport_buffer_inspect(int fd, struct csupport_file_facts *facts);

enum csupport_buffer_use {
  /// For writing, as long as nobody else has it. A forked child does not inherit it.
  CSUPPORT_BUFFER_FOR_ITS_MAKER,
  /// For writing, as others do. In a forked child, private memory is in its place.
  CSUPPORT_BUFFER_FOR_ALL,
  /// One that is frozen. A forked child has it as well. -ENOMEM also if a page that is not there cannot be had.
  CSUPPORT_BUFFER_FOR_READING,
};
int csupport_buffer_map(int fd, size_t bytes, enum csupport_buffer_use use, void **address);
int csupport_buffer_unmap(void *address, size_t bytes, enum csupport_buffer_use use);
/// Takes the memory for all that its maker has mapped, if it can be had: huge pages if they are wanted, and the system lets.
/// -ENOMEM, -ENOSPC; -EINTR.
int csupport_buffer_populate(int fd, void *address, size_t bytes, bool wants_huge_pages);
/// Copies into or out of memory that others may write at the same time. What is looked at afterwards is the copy.
void csupport_copy_shared(void *target, const void *source, size_t bytes);

// ---- descriptors.c: sockets and what travels through them --------------------------------------------------------------

/// Never -EINTR: the descriptor is gone then too. What this library has made, received or adopted is closed this way and
/// no other: in a child that is forked without an exec, such a number stands for a socket whose other end is gone, so
/// that the child keeps nothing open.
int csupport_close(int fd);
/// Closes a descriptor that anybody may have sent: on a thread for such things, since it may take as long as its sender
/// likes. If no thread can be had, a socket is closed here, without lingering, and anything else is tried again when the
/// next descriptor is closed. A negative number is none.
void csupport_close_elsewhere(int fd);
/// Many descriptors wait to be closed elsewhere: whoever lets in more because a peer sends them runs out of numbers.
/// Of a suspect, fewer are let in: it has sent such before.
bool csupport_closing_is_behind(bool is_suspect);
/// Closes memory that was inspected, or made here: elsewhere if there is much of it to be freed.
void csupport_memory_close(int fd);
/// Closes a channel's socket: elsewhere if there are packets in it, whose descriptors are closed with it.
void csupport_socket_close(int fd);
/// Receives what is left in a socket that nobody else receives from, and closes what came with it, elsewhere. -EMFILE: the
/// packets stay where they are.
int csupport_socket_drain_elsewhere(int fd);
/// Takes over a descriptor that this process was started with: it is not inherited any further.
int csupport_adopt(int fd);
/// Takes over a descriptor of the program's: close-on-exec, and under a number above the standard ones, so that one of those
/// is closed here. Returns its number; -EBADF, -EMFILE: it is still the program's, unchanged.
int csupport_take_over(int fd);
/// Another number for the same file, this library's.
int csupport_duplicate(int fd);
/// The program has this descriptor from now on: it is none of the library's any more.
void csupport_give_up(int fd);
/// Closes a descriptor of a file that has been sent to another process, elsewhere. The file's options are that process's
/// business: a socket that lingers goes on to. If many wait, and numbers become scarce, it takes a moment.
void csupport_close_sent_elsewhere(int fd);
/// 0 if so many descriptors can be had at this moment, or what the kernel says of the first that cannot (-EMFILE, -ENFILE).
/// Tries it with copies of `fd`, whose closing must not take long.
int csupport_descriptors_are_free(int fd, size_t count);
/// Two connected SOCK_SEQPACKET Unix sockets, non-blocking.
int csupport_socket_pair(int *first, int *second);
/// 1 if `fd` is a connected Unix SOCK_SEQPACKET socket (or was, and the other end has hung up), 0 if it is anything
/// else. Never blocks, whatever it is.
int csupport_socket_is_seqpacket(int fd);
/// 1 if what is sent through such a socket may reach a server, for which it would come from this process; 0 if not. Those
/// of a pair (csupport_socket_pair) have no names, unless somebody has bound one. Nobody is reached after a hang-up.
int csupport_socket_may_reach_server(int fd);
/// Hang-up for both ends, now, whoever else still holds this descriptor. What was sent before can still be received.
int csupport_socket_shutdown(int fd);
/// 1 if the other end has hung up, or sends no more, 0 if not. (Of one that receives no more, only sending tells.) Does
/// not block.
int csupport_socket_is_hung_up(int fd);
/// Raises the send buffer to at least `bytes` as far as the system allows (SO_SNDBUFFORCE, else SO_SNDBUF).
int csupport_socket_set_send_buffer(int fd, int bytes);

/// The kernel passes at most this many descriptors in one packet (SCM_MAX_FD).
enum { CSUPPORT_MAX_PACKET_FDS = 253 };

/// Sends one packet of at least one byte, all or nothing; never blocks, never raises SIGPIPE. The caller keeps `fds`.
/// (A receiver could not tell an empty packet from the end of the connection: -EINVAL.)
/// Returns `byte_count`; -EAGAIN (queue full), -EPIPE, -ECONNRESET, -ETOOMANYREFS, -ENOBUFS, -EMSGSIZE, …
ssize_t csupport_send_packet(int fd, const void *bytes, size_t byte_count, const int *fds, size_t fd_count);

struct csupport_received {
  size_t byte_count;      // of the packet, as far as it fitted
  size_t fd_count;        // descriptors now owned by the caller, close-on-exec, also when a flag below is set
  bool bytes_truncated;
  bool fds_truncated;     // some descriptors did not arrive: this process is out of them, or too few were asked for
};
/// Takes one packet; never blocks. 1: taken, 0: end of file (the other end is gone and nothing is left; or it sent an
/// empty packet, which no one does who uses csupport_send_packet), -EAGAIN: none.
/// (A socket whose peer closed with unread packets says -ECONNRESET once; packets can still be read after that.)
int csupport_receive_packet(int fd, void *bytes, size_t capacity, int *fds, size_t fd_capacity,
                            struct csupport_received *received);
/// As above, but leaves the packet where it is as well: its descriptors are copies.
int csupport_copy_packet(int fd, void *bytes, size_t capacity, int *fds, size_t fd_capacity,
                         struct csupport_received *received);
/// Takes a packet away, of which the caller has a copy.
int csupport_drop_packet(int fd);
/// As csupport_receive_packet, but leaves the packet where it is, with its descriptors: `fd_count` is 0, and `fds_truncated` says that there
/// are some (or that the socket tells its senders' names).
int csupport_peek_packet(int fd, void *bytes, size_t capacity, struct csupport_received *received);

/// A SOCK_SEQPACKET socket listening on `path`, mode 0600 (less the umask) from the moment it exists; non-blocking.
/// -EADDRINUSE (also if the path is that of a socket nobody listens on any more), -EACCES, -ENAMETOOLONG, …
int csupport_socket_listen(const char *path, int backlog);
/// A SOCK_SEQPACKET socket connected to `path`; non-blocking. -ENOENT, -ECONNREFUSED, -EAGAIN (backlog full), …
int csupport_socket_connect(const char *path);
/// Next connection, non-blocking. -EAGAIN if there is none.
int csupport_socket_accept(int fd);
/// The longest path csupport_socket_listen accepts, without the terminating zero.
enum { CSUPPORT_MAX_SOCKET_PATH = 107 };

// ---- paths.c: the names of listening sockets --------------------------------------------------------------------------

enum {
  CSUPPORT_PATH_ABSENT = 0,
  CSUPPORT_PATH_SOCKET = 1,
  CSUPPORT_PATH_DIRECTORY = 2,
  CSUPPORT_PATH_OTHER = 3,
};
/// What is at `path` (a symbolic link is "other"), or -errno.
int csupport_path_kind(const char *path);
/// Which file a path names.
struct csupport_path_identity {
  uint64_t device;
  uint64_t inode;
};
/// Does not follow a symbolic link.
int csupport_path_identity(const char *path, struct csupport_path_identity *identity);
/// Removes the name if it is still that file's; -ESTALE if it is another's.
int csupport_path_remove(const char *path, struct csupport_path_identity identity);
/// The working directory, beginning with a slash.
int csupport_working_directory(char *path, size_t capacity);
/// Changes the mode of what is at `path`.
int csupport_path_set_mode(const char *path, unsigned mode);
/// Takes the lock on the directory, which closing the descriptor gives back; -EWOULDBLOCK if somebody else holds it.
/// Never waits, and leaves nothing behind.
int csupport_directory_lock(const char *path);
/// Sees to it that `path` is a directory of this user alone, making it if need be. -EPERM if it is somebody else's.
int csupport_directory_make_private(const char *path);

struct csupport_credentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
/// Who was at the other end when the connection was made (SO_PEERCRED).
int csupport_socket_peer(int fd, struct csupport_credentials *credentials);

// ---- epoll, eventfd -----------------------------------------------------------------------------------------------------

enum {
  CSUPPORT_EVENT_IN = 0x001,
  CSUPPORT_EVENT_OUT = 0x004,
  CSUPPORT_EVENT_ERR = 0x008,
  CSUPPORT_EVENT_HUP = 0x010,
  CSUPPORT_EVENT_EDGE = 1u << 31,
};
struct csupport_event {
  uint64_t token;
  uint32_t events;
};
int csupport_epoll_create(void);
/// Hang-up and error are always reported, also with `events` 0. An end that only sends no more (SHUT_WR) has hung up.
int csupport_epoll_add(int epoll, int fd, uint32_t events, uint64_t token);
int csupport_epoll_remove(int epoll, int fd);
/// `timeout_ns` < 0: without limit; 0: do not wait. Returns how many events were stored (at most 256 at a time).
/// -EINTR does not take a signal: a thread whose io_uring was destroyed gets it once, some time later.
int csupport_epoll_wait(int epoll, struct csupport_event *events, int capacity, int64_t timeout_ns);
/// Waits until `fd` is readable. 1: it is, 0: it was not in time; -EINTR. `timeout_ns` as above.
int csupport_wait_readable(int fd, int64_t timeout_ns);
/// A counter to wake an epoll with. To signal it again, or to drain it when there was no signal, is no error.
int csupport_eventfd_create(void);
int csupport_eventfd_signal(int fd);
int csupport_eventfd_drain(int fd);

// ---- uring.c: io_uring -----------------------------------------------------------------------------------------------------

/// One io_uring, owned by the thread that creates it (SINGLE_ISSUER, DEFER_TASKRUN where the kernel has them): no
/// other may use it, and gets -EEXIST.
struct csupport_uring;
/// What a kernel offers, found out by trying. Bits:
enum {
  CSUPPORT_URING_SETUP = 1,        // io_uring_setup is permitted
  CSUPPORT_URING_FUTEX_WAIT = 2,   // a futex wait was submitted, woken and completed
  CSUPPORT_URING_POLL = 4,         // a poll completed
};
/// The bits above, or -errno of io_uring_setup (-EPERM: forbidden by sysctl or seccomp; -ENOSYS: not in this kernel).
int csupport_uring_probe(void);

/// `entries`: how many operations can be queued before they have to be submitted. -EPERM, -ENOSYS, -ENOMEM, -EMFILE, …
int csupport_uring_create(unsigned entries, struct csupport_uring **ring);
/// When this returns on the owning thread, no operation is pending any more: memory that was waited on may go, and to
/// close a socket that was polled is a hang-up. From another thread the kernel gets there milliseconds later. NULL is
/// allowed.
void csupport_uring_destroy(struct csupport_uring *ring);
/// Each of these queues one operation, submitting first if the queue is full; its completion carries `user_data`.
/// On an error nothing was queued.
/// The futex wait completes with 0 (woken), -EAGAIN (`*word != expected`), -ENOMEM (try again), -ECANCELED.
int csupport_uring_futex_wait(struct csupport_uring *ring, uint64_t user_data, const void *word, uint32_t expected);
/// One-shot poll; completes with the events, or -ECANCELED. CSUPPORT_EVENT_EDGE means nothing here.
int csupport_uring_poll(struct csupport_uring *ring, uint64_t user_data, int fd, uint32_t events);
/// Cancels the operation queued with `target`, which completes with -ECANCELED; this request's own completion carries
/// `user_data` and a number >= 0, or -ENOENT if there is no such operation (it may have completed). Its cost grows with
/// the number of pending futex waits.
int csupport_uring_cancel(struct csupport_uring *ring, uint64_t user_data, uint64_t target);

struct csupport_completion {
  uint64_t user_data;
  int32_t result;
};
/// Submits what is queued, and, if `wait` and nothing has completed yet, waits for a completion, at most `timeout_ns`
/// (< 0: without limit). Then moves up to `capacity` completions to `completions` and returns how many.
/// A time-out is 0 completions; -EINTR is passed on, or is 0 completions too if something was submitted.
///
/// Makes one system call at most, and none if nothing is queued and completions are there, or if not waiting and the
/// kernel has none. The kernel produces some 20 completions per call, so there may be more than were returned; it
/// keeps those that do not fit, and a later call gets them.
int csupport_uring_enter(struct csupport_uring *ring, bool wait, int64_t timeout_ns,
                         struct csupport_completion *completions, int capacity);

// ---- spawn.c --------------------------------------------------------------------------------------------------------------------

/// What a new process inherits (`environ`), ended by NULL; NULL after clearenv().
char *const *csupport_environment(void);

struct csupport_inherited_fd {
  int parent_fd;
  int child_fd;
};
/// Starts the first of `paths` (ended by NULL) that can be executed, with exactly the standard descriptors, those of
/// `fds`, and what the caller itself holds without close-on-exec. The signal mask is empty; signals that this process
/// ignores stay ignored, as through exec. `*pidfd` becomes readable when it exits.
/// The child closes what is this library's before it executes anything, and nothing is closed elsewhere until then: no
/// peer can make a program begin late.
/// Any `child_fd` may also be somebody's `parent_fd`; no two may be equal. The caller keeps its descriptors, unchanged.
///
/// After an error no program has run, and no child is left for anybody to wait for. -ENOENT, -EACCES (also if a later
/// path does not exist), -ENOEXEC, -E2BIG, -EBADF, -EMFILE, …
int csupport_spawn(const char *const paths[], char *const argv[], char *const envp[],
                   const struct csupport_inherited_fd *fds, size_t fd_count, pid_t *pid, int *pidfd);

enum csupport_session { CSUPPORT_SAME_SESSION, CSUPPORT_NEW_GROUP, CSUPPORT_NEW_SESSION };
/// Both limits of a resource (RLIMIT_…).
struct csupport_limit {
  int resource;
  uint64_t value;
};
/// What a new process has otherwise than this one. All zero: nothing.
struct csupport_surroundings {
  const struct csupport_inherited_fd *fds;
  size_t fd_count;
  const char *directory;  // its working directory, or NULL
  enum csupport_session session;
  int parent_death_signal;  // what it is sent when this process ends, or 0: costs a thread while it lives
  const struct csupport_limit *limits;
  size_t limit_count;
  bool has_nothing_else;  // not even what this process holds without close-on-exec
};
/// What it takes to start a program.
enum csupport_birth_step {
  CSUPPORT_BIRTH_NUMBER,  // a number for the pidfd
  CSUPPORT_BIRTH_MEMORY,
  CSUPPORT_BIRTH_THREAD,
  CSUPPORT_BIRTH_PROCESS,
  CSUPPORT_BIRTH_CLOSING,
  CSUPPORT_BIRTH_DESCRIPTORS,
  CSUPPORT_BIRTH_SESSION,
  CSUPPORT_BIRTH_GROUP,
  CSUPPORT_BIRTH_DIRECTORY,
  CSUPPORT_BIRTH_SIGNAL,
  CSUPPORT_BIRTH_LIMITS,
  CSUPPORT_BIRTH_PROGRAM,
};
/// The system call that makes the step.
const char *csupport_birth_step_call(enum csupport_birth_step step);
struct csupport_newborn {
  pid_t pid;
  int pidfd;
  enum csupport_birth_step failed_step;  // after an error
};
/// As csupport_spawn, with surroundings of its own.
int csupport_spawn_in(const struct csupport_surroundings *surroundings, const char *const paths[], char *const argv[],
                      char *const envp[], struct csupport_newborn *newborn);

/// A pipe's two ends, one of which a program is to have.
int csupport_pipe(int *reading, int *writing);
/// open(), for a program that is to have the file; a new one can be read and written by all that the umask lets.
int csupport_open(const char *path, int flags);

// ---- process.c ------------------------------------------------------------------------------------------------------------------

struct csupport_exit {
  bool was_signalled;
  int code;   // exit code, or the signal's number
};
/// Reaps the child behind `pidfd`. 1: done, 0: still running, -ECHILD: no child of this process, or reaped before. Does
/// not block.
int csupport_reap(int pidfd, struct csupport_exit *status);
/// The same of one that somebody else has reaped, if the kernel still knows (Linux 6.15). 1: known, 0: not reaped yet,
/// -errno: nobody knows.
int csupport_exit_after_reaping(int pidfd, struct csupport_exit *status);
/// 1 if the process has begun to end, 0 if it lives; -ENOENT if there is none. Says so from before the moment at which
/// its descriptors close.
int csupport_process_is_ending(pid_t pid);
/// The first child of the process, in the order of their births, or 0 if it has none; -errno: nobody can tell.
pid_t csupport_process_child(pid_t pid);
/// A number from the process's status, such as "NoNewPrivs" (or of `base` 16, "CapEff"). -errno: nobody can tell.
int csupport_process_field(pid_t pid, const char *name, int base, uint64_t *value);
/// Whether the process lives in another namespace than this one: `kind` is "net", "pid", … -errno: nobody can tell.
int csupport_process_has_own_namespace(pid_t pid, const char *kind);
/// Calls `body` with the name of each file from which code was loaded; empty for the program itself, which has none there.
void csupport_loaded_files(void (*body)(void *context, const char *name), void *context);
int csupport_pidfd_open(pid_t pid);
int csupport_pidfd_signal(int pidfd, int signal);

// ---- threads.c ------------------------------------------------------------------------------------------------------------------

/// Starts a detached thread with every signal blocked, so that no handler of the program runs on it. All but those that
/// a thread's own fault raises (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS): blocked, they would end the process
/// past its crash reporter. The name is cut to 15 bytes.
/// It may run where its maker may, or, if its maker is a placed thread, where that could run before.
int csupport_thread_start(const char *name, void (*body)(void *), void *argument);

/// As in sched_setscheduler(2).
enum csupport_schedule {
  CSUPPORT_SCHEDULE_AS_BEFORE = -1,
  CSUPPORT_SCHEDULE_NORMAL = 0,
  CSUPPORT_SCHEDULE_FIFO = 1,
  CSUPPORT_SCHEDULE_ROUND_ROBIN = 2,
  CSUPPORT_SCHEDULE_BATCH = 3,
};
enum csupport_placement_step {
  CSUPPORT_PLACEMENT_THREAD,
  CSUPPORT_PLACEMENT_PROCESSORS,
  CSUPPORT_PLACEMENT_SCHEDULING,
};
/// On which processors a thread is to run, and how it is scheduled.
struct csupport_placement {
  int *processors;  // NULL: where its maker may
  size_t processor_count;
  enum csupport_schedule scheduling;
  int nice;
  int priority;
  // After an error.
  enum csupport_placement_step failed_step;
  size_t missing_count;  // so many, at the beginning of `processors`, cannot be had
};
/// As csupport_thread_start(); returns once the thread is where it is to be. What it starts by these functions, or as a program, is not
/// there; and nothing that it starts has a real-time class, or a nice value below 0.
/// After an error, no thread has begun. -EINVAL with missing processors: there are no such, or this process may not use them; one
/// of them is enough. -EPERM: this process may not have that scheduling.
int csupport_thread_start_placed(const char *name, struct csupport_placement *placement, void (*body)(void *),
                                 void *argument);
/// A number that is this thread's for its life, never 0; another one in a forked child. No system call.
uint64_t csupport_thread_id(void);
/// How many processors this thread may run on.
int csupport_usable_processors(void);

#endif
