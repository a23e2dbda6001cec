import Glibc

extension Diagnosis {
  func judgeMemory() -> [Finding] {
    [memfd, posixSharedMemory, devShm, backingChoice, backingOverride, cgroup].compactMap(\.self)
  }

  // MARK: memfd

  private var memfd: Finding {
    let trial = facts.memory.memfd
    let isUsed = backing == .memfd
    if let errno = trial.creation.errno {
      return Finding(
        .memory, isUsed ? .problem : .notice, "memfd", "cannot be made: \(trial.creation)",
        advice: isUsed ? advice(onMemfdError: errno) : [])
    }
    guard trial.refusesToShrink else {
      return Finding(
        .memory, isUsed ? .problem : .notice, "memfd",
        "can be shrunk although it is sealed: no process would accept it from another",
        advice: isUsed ? useOtherBacking : [])
    }
    guard trial.growth.worked else { return cannotGrow("memfd", trial.growth, isUsed: isUsed) }
    let setting = facts.memory.memfdNoexec.map { " (vm.memfd_noexec = \($0) permits it)" } ?? ""
    return Finding(.memory, .ok, "memfd", "works: it can grow and cannot shrink\(setting)")
  }

  private func advice(onMemfdError errno: CInt) -> [Advice] {
    switch errno {
    case EMFILE: [moreOpenFiles]
    case EFBIG: [largerFiles]
    case EACCES where facts.memory.memfdNoexec == 2:
      [adviceForRoot("to permit it", "sysctl -w vm.memfd_noexec=1")] + useOtherBacking
    default: useOtherBacking
    }
  }

  private func cannotGrow(_ subject: String, _ outcome: Outcome, isUsed: Bool) -> Finding {
    let consequence = isUsed ? ": a channel can hold no more than it began with" : ""
    // The limit on file sizes has its own finding, with advice.
    return Finding(.memory, .notice, subject, "can be made but cannot grow (\(outcome))\(consequence)")
  }

  // MARK: shm_open

  private var posixSharedMemory: Finding {
    let trial = facts.memory.posixSharedMemory
    let isUsed = backing == .posixSharedMemory
    if let errno = trial.creation.errno {
      let needed = isUsed ? "" : "; not needed"
      return Finding(
        .memory, isUsed ? .problem : .notice, "shm_open", "cannot make memory: \(trial.creation)\(needed)",
        advice: isUsed ? advice(onSharedMemoryError: errno) : [])
    }
    guard trial.growth.worked else { return cannotGrow("shm_open", trial.growth, isUsed: isUsed) }
    let caution =
      isUsed ? ", but a peer can shrink it and so kill this process: only for processes that trust each other" : ""
    return Finding(.memory, .ok, "shm_open", "works\(caution)")
  }

  private func advice(onSharedMemoryError errno: CInt) -> [Advice] {
    switch errno {
    case EMFILE: [moreOpenFiles]
    case EFBIG: [largerFiles]
    case ENOSPC: largerDevShm + useOtherBacking
    default: useOtherBacking
    }
  }

  private var devShm: Finding? {
    let isUsed = backing == .posixSharedMemory
    guard let shm = facts.memory.devShm else {
      return isUsed ? Finding(.memory, .notice, "/dev/shm", "there is none") : nil
    }
    let text = "\(Format.bytes(shm.freeBytes)) free of \(Format.bytes(shm.sizeBytes))"
    // 64 MiB is what container engines give; a single channel may grow beyond it.
    let comfortableBytes: UInt64 = 128 << 20
    if isUsed, shm.freeBytes < comfortableBytes {
      return Finding(
        .memory, .notice, "/dev/shm", "\(text): all channels together can hold no more", advice: largerDevShm)
    }
    if shm.freeBytes < pageBytes {
      return Finding(.memory, .notice, "/dev/shm", "\(text): it is full; channels in memfd do not need it")
    }
    return Finding(.memory, .ok, "/dev/shm", isUsed ? text : "\(text); not used")
  }

  private var largerDevShm: [Advice] {
    [
      adviceForRoot("to enlarge it", "mount -o remount,size=1G /dev/shm"),
      Advice("or, for a container", command: "docker run --shm-size=1g …"),
    ]
  }

  // MARK: The choice

  private var backingChoice: Finding {
    let reason = facts.overrides.backing == backing.rawValue ? "as MESSAGEPORTS_BACKING says" : "the default"
    return Finding(.memory, .ok, "backing", "\(backing.rawValue), \(reason)")
  }

  private var backingOverride: Finding? {
    guard let name = facts.overrides.backing, Backing(rawValue: name) == nil else { return nil }
    return Finding(
      .memory, .notice, "environment",
      "MESSAGEPORTS_BACKING=\(name) is ignored: it is neither memfd nor posixSharedMemory",
      advice: [Advice("to use the default, memfd", command: "unset MESSAGEPORTS_BACKING")])
  }

  /// Empty unless the other one works.
  private var useOtherBacking: [Advice] {
    switch backing {
    case .memfd where facts.memory.posixSharedMemory.creation.worked:
      [
        Advice(
          "between processes that trust each other, use memory that cannot be sealed",
          command: "export MESSAGEPORTS_BACKING=posixSharedMemory")
      ]
    case .posixSharedMemory where facts.memory.memfd.creation.worked && facts.memory.memfd.refusesToShrink:
      [Advice("use memfd, which works", command: "export MESSAGEPORTS_BACKING=memfd")]
    default: []
    }
  }

  // MARK: Control group

  private var cgroup: Finding {
    guard let group = facts.memory.cgroup else {
      return Finding(.memory, .ok, "memory limit", "no control group sets one")
    }
    let used = group.usedBytes.map { "\(Format.bytes($0)) in use of " } ?? ""
    let text = "\(used)\(Format.bytes(group.limitBytes)); the memory of channels counts"
    let freeBytes = group.limitBytes - min(group.usedBytes ?? 0, group.limitBytes)
    guard freeBytes < 64 << 20 else { return Finding(.memory, .ok, "memory limit", text) }
    let unlimited = group.path.hasSuffix("memory.max") ? "max" : "-1"
    return Finding(
      .memory, .notice, "memory limit", text,
      advice: [adviceForRoot("to lift it", "sh -c 'echo \(unlimited) > \(group.path)'")])
  }
}
