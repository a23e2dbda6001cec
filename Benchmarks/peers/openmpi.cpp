// Open MPI between two ranks of one machine: point-to-point layer ob1 over its shared-memory transport (vader), its
// defaults otherwise. MPI polls, always; there is no sleeping figure.
//
// `openmpi` itself is the supervisor. For each figure it starts `mpirun … openmpi`, which sees that it is a rank and
// finds the control block through the supervisor's descriptor.
#include <fcntl.h>
#include <mpi.h>

#include "driver.hpp"

using namespace peers;

/// Blocking calls only: MPI_Send, which buffers short messages, and MPI_Recv.
class BlockingEnd {
 public:
  BlockingEnd(Side side, Job &job)
      : source_(job.size), target_(job.size), size_(int(job.size)), other_(side == Side::producer ? 1 : 0) {}
  uint8_t *source() { return source_.data(); }
  void send() { MPI_Send(source_.data(), size_, MPI_BYTE, other_, 0, MPI_COMM_WORLD); }
  void flush() {}
  const uint8_t *receive() {
    MPI_Recv(target_.data(), size_, MPI_BYTE, other_, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return target_.data();
  }

 private:
  Buffer source_, target_;
  int size_, other_;
};

/// As bandwidth tests for MPI do: a window of sends and of posted receives in flight, each with its own buffer.
template <int window>
class WindowEnd {
 public:
  WindowEnd(Side side, Job &job)
      : stride_((job.size + 4095) / 4096 * 4096), buffers_(stride_ * window), size_(int(job.size)),
        other_(side == Side::producer ? 1 : 0), isProducer_(side == Side::producer) {
    for (int i = 0; i < window; i++) {
      requests_[i] = MPI_REQUEST_NULL;
      fillPattern(slot(i), job.size);
      if (!isProducer_) post(i);
    }
  }

  ~WindowEnd() {
    for (int i = 0; i < window && !isProducer_; i++) {
      if (requests_[i] != MPI_REQUEST_NULL) MPI_Cancel(&requests_[i]);
    }
    MPI_Waitall(window, requests_, MPI_STATUSES_IGNORE);
  }

  uint8_t *source() {
    MPI_Wait(&requests_[next_], MPI_STATUS_IGNORE);  // the send before the last `window`
    return slot(next_);
  }

  void send() {
    MPI_Isend(slot(next_), size_, MPI_BYTE, other_, 0, MPI_COMM_WORLD, &requests_[next_]);
    next_ = (next_ + 1) % window;
  }

  void flush() { MPI_Waitall(window, requests_, MPI_STATUSES_IGNORE); }

  const uint8_t *receive() {
    if (held_ >= 0) post(held_);  // the message before this one has been looked at
    MPI_Wait(&requests_[next_], MPI_STATUS_IGNORE);
    held_ = next_;
    next_ = (next_ + 1) % window;
    return slot(held_);
  }

 private:
  uint8_t *slot(int index) { return buffers_.data() + stride_ * size_t(index); }
  void post(int index) {
    MPI_Irecv(slot(index), size_, MPI_BYTE, other_, 0, MPI_COMM_WORLD, &requests_[index]);
  }

  size_t stride_;
  Buffer buffers_;
  int size_, other_;
  bool isProducer_;
  int next_ = 0, held_ = -1;
  MPI_Request requests_[window];
};

// What a rank needs to know; the rest of Job is the supervisor's.
struct Shared {
  Control control;
  size_t caseIndex, size;
  double seconds;
  int cpus[2];
};

static int controlDescriptor;

/// Above 4 KiB, where `vader` sends by rendezvous, it copies once, straight from the sender's memory (CMA), if the kernel
/// allows. That is a system call for each piece; the two copies through shared memory that it makes otherwise may be
/// faster. Both are measured, and the better one counts.
static bool copiesTwice(const Case &measured) { return strstr(measured.variant, "two copies") != nullptr; }

static const Peer *launched;

static pid_t launch(Job &job, size_t caseIndex) {
  auto shared = reinterpret_cast<Shared *>(job.control);
  shared->caseIndex = caseIndex;
  shared->size = job.size;
  shared->seconds = job.seconds;
  shared->cpus[0] = job.cpus[0];
  shared->cpus[1] = job.cpus[1];
  pid_t child = peers_fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // not KILL: mpirun is to take its ranks and their shared memory with it
  char self[4096], control[64];
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length <= 0) peers_die("cannot find this program");
  self[length] = 0;
  snprintf(control, sizeof control, "/proc/%d/fd/%d", getppid(), controlDescriptor);
  setenv("PEERS_MPI_CONTROL", control, 1);
  // --bind-to none: each rank pins itself, and proves it. The rest only chooses the transport.
  const char *copying = copiesTwice(launched->cases[caseIndex]) ? "none" : "cma";
  execlp("mpirun", "mpirun", "--allow-run-as-root", "-n", "2", "--oversubscribe", "--bind-to", "none", "--mca", "pml",
         "ob1", "--mca", "btl", "self,vader", "--mca", "btl_vader_single_copy_mechanism", copying, self, nullptr);
  peers_die("cannot start mpirun");
}

static int runRank(const Peer &peer, int argc, char **argv) {
  int descriptor = open(getenv("PEERS_MPI_CONTROL"), O_RDWR);
  peers_check(descriptor, "opening the control block");
  auto shared = static_cast<Shared *>(
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0));
  if (shared == MAP_FAILED) peers_die("cannot map the control block");
  peers_calibrate();
  MPI_Init(&argc, &argv);
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  Job job = {&shared->control, shared->size, shared->seconds, {shared->cpus[0], shared->cpus[1]}, nullptr, ""};
  runSide(rank == 0 ? Side::producer : Side::consumer, job, peer.cases[shared->caseIndex].body);
  MPI_Finalize();
  return 0;
}

int main(int argc, char **argv) {
  const char *blocking = "MPI_Send and MPI_Recv, both poll; up to 4 KiB copied in and out of shared memory, above that one copy straight from the sender's memory (CMA)";
  const char *blockingTwice = "MPI_Send and MPI_Recv, both poll; copied in and out of shared memory";
  const char *windowed = "MPI_Isend and MPI_Irecv, 64 in flight (4 at 1 MiB), both poll; up to 4 KiB copied in and out of shared memory, above that one copy straight from the sender's memory (CMA)";
  const char *windowedTwice = "MPI_Isend and MPI_Irecv, 64 in flight (4 at 1 MiB), both poll; copied in and out of shared memory";
  Peer peer = {"openmpi", Placement::launched, 0, {}, nullptr, nullptr, launch};
  auto add = [&](const char *metric, long size, const char *variant, Body body, const char *note) {
    peer.cases.push_back({metric, size, variant, body, note});
  };
  for (long size : {8L, 64L, 256L, 1024L, 8192L, 65536L}) {
    add("rtt_poll_ns", size, "", roundTrip<BlockingEnd>, blocking);
    if (size > 4096) add("rtt_poll_ns", size, "two copies", roundTrip<BlockingEnd>, blockingTwice);
  }
  for (long size : {8L, 64L, 1024L, 8192L, 65536L, 1048576L}) {
    const char *metric = size > 8192 ? "oneway_bytes_per_s" : "oneway_msgs_per_s";
    Body one = size > 8192 ? oneWayBytes<BlockingEnd> : oneWayMessages<BlockingEnd>;
    Body many = size > 65536 ? oneWayBytes<WindowEnd<4>> : size > 8192 ? oneWayBytes<WindowEnd<64>> : oneWayMessages<WindowEnd<64>>;
    bool isLargest = size > 65536;
    add(metric, size, "", one, blocking);
    add(metric, size, isLargest ? "window4" : "window64", many, windowed);
    if (size <= 4096) continue;
    add(metric, size, "two copies", one, blockingTwice);
    add(metric, size, isLargest ? "window4, two copies" : "window64, two copies", many, windowedTwice);
  }
  launched = &peer;
  if (getenv("PEERS_MPI_CONTROL") != nullptr) return runRank(peer, argc, argv);

  controlDescriptor = memfd_create("peers-control", MFD_CLOEXEC);
  if (controlDescriptor < 0 || ftruncate(controlDescriptor, sizeof(Shared)) != 0) peers_die("cannot make the control block");
  void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, controlDescriptor, 0);
  if (memory == MAP_FAILED) peers_die("cannot map the control block");
  return run(peer, argc, argv, static_cast<Control *>(memory));
}
