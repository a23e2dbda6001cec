extension Diagnosis {
  func judgeProcesses() -> [Finding] {
    [processors, membarrier, pidfd, sandbox]
  }

  private var processors: Finding {
    let count = facts.processes.usableProcessors
    guard count > 1 else {
      return Finding(
        .processes, .notice, "processors",
        "1 usable: spinning would keep the peer from running, so ports sleep at once, and waking costs a switch"
      )
    }
    return Finding(.processes, .ok, "processors", "\(count) usable: spinning before sleeping can pay off")
  }

  private var membarrier: Finding {
    facts.processes.membarrier
      ? Finding(.processes, .ok, "membarrier", "works: posting to a receiver that polls needs no fence")
      : Finding(.processes, .notice, "membarrier", "not available: posting to a receiver that polls costs a fence")
  }

  private var pidfd: Finding {
    let outcome = facts.processes.pidfd
    return outcome.worked
      ? Finding(.processes, .ok, "pidfd", "works: the end of a worker process is noticed")
      : Finding(.processes, .notice, "pidfd", "worker processes cannot be spawned: \(outcome)")
  }

  // MARK: Sandboxes

  private var sandbox: Finding {
    guard let bubblewrap = facts.sandbox.bubblewrap else {
      return Finding(
        .processes, .notice, "sandbox", "bubblewrap is not installed; only sandboxed workers need it",
        advice: [adviceForRoot("to install it", "apt-get install bubblewrap")])
    }
    guard let complaint = bubblewrap.complaint else {
      return Finding(.processes, .ok, "sandbox", "\(bubblewrap.path) can make one")
    }
    let reason = whyNoUserNamespaces
    let setting = reason.map { ": \($0.text)" } ?? ""
    return Finding(
      .processes, .notice, "sandbox",
      "\(bubblewrap.path) cannot make one (\(complaint))\(setting); only sandboxed workers need it",
      advice: reason.map { [adviceForRoot("to permit it", "sysctl -w \($0.setting)")] } ?? [])
  }

  /// The setting that forbids user namespaces, if one does.
  private var whyNoUserNamespaces: (text: String, setting: String)? {
    let facts = facts.sandbox
    if facts.userNamespaces == 0 {
      return ("user.max_user_namespaces = 0", "user.max_user_namespaces=15000")
    }
    if facts.unprivilegedUserNamespaces == 0 {
      return ("kernel.unprivileged_userns_clone = 0", "kernel.unprivileged_userns_clone=1")
    }
    if let value = facts.apparmorRestrictsUserNamespaces, value != 0 {
      return (
        "kernel.apparmor_restrict_unprivileged_userns = \(value)", "kernel.apparmor_restrict_unprivileged_userns=0"
      )
    }
    return nil
  }
}
