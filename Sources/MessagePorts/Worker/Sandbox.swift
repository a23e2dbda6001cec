import CSupport
import Glibc

/// The world of a confined worker, as this process sees it: its first process, of which the worker is the first child.
///
/// Outside of it stands bubblewrap, which waits for the end and passes the status on.
final class Sandbox: Sendable {
  let granted: GrantedConfinement
  private let firstProcess: pid_t
  private let pidfd: CInt
  /// Bubblewrap reports the end here; without a reader, that would kill it.
  private let status: PacketSocket

  init(firstProcess: pid_t, pidfd: CInt, status: consuming PacketSocket, granted: GrantedConfinement) {
    self.firstProcess = firstProcess
    self.pidfd = pidfd
    self.status = status
    self.granted = granted
  }

  deinit { _ = csupport_close(pidfd) }

  /// SIGKILL ends everything that lives there; any other signal is the worker's.
  func signal(_ signal: CInt) {
    if signal == SIGKILL {
      _ = csupport_pidfd_signal(pidfd, signal)
      return
    }
    let worker = csupport_process_child(firstProcess)
    guard worker > 0 else { return }
    let workerPidfd = csupport_pidfd_open(worker)
    guard workerPidfd >= 0 else { return }
    // The number may have become another's in between: then it is not the first one's child.
    if csupport_process_child(firstProcess) == worker { _ = csupport_pidfd_signal(workerPidfd, signal) }
    _ = csupport_close(workerPidfd)
  }

  /// The worker has begun to end, or has ended.
  var workerMayBeEnding: Bool {
    let worker = csupport_process_child(firstProcess)
    return worker <= 0 || csupport_process_is_ending(worker) != 0
  }

  /// What the worker's own end was, given bubblewrap's: that tells of a signal as a shell does.
  static func status(of end: ExitStatus) -> ExitStatus {
    if case .exited(let code) = end, code > 128, code <= 128 + 64 { return .signalled(code - 128) }
    return end
  }
}
