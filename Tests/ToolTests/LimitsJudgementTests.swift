import Glibc
import MessagePortsTool
import Testing

@Suite("The doctor on limits and processes") struct LimitsJudgementTests {
  // MARK: Open files

  @Test("A channel's end takes two descriptors, besides three standard ones and four of an event loop")
  func roomForChannels() throws {
    let diagnosis = try Diagnosis.of { _ in }
    #expect(
      diagnosis.text("channels")
        == "a process has room for 10,000 shared with others, limited by open files; "
        + "channels within a process need nothing")
    #expect(diagnosis.room.byOpenFiles == 10_000)
    #expect(diagnosis.room.byMappings == 65_400)
    #expect(diagnosis.room.byMappingsOnceGrown == 21_800)
  }

  @Test("A small soft limit is raised to the hard one, which needs no root") func smallSoftLimit() throws {
    let diagnosis = try Diagnosis.of { $0.limits.openFiles.soft = .finite(64) }
    #expect(
      diagnosis.complaints == [
        Finding(
          .limits, .notice, "channels",
          "a process has room for 28 shared with others, limited by open files; "
            + "channels within a process need nothing"),
        Finding(
          .limits, .notice, "open files",
          "64 (hard limit 524,288, fs.nr_open 1,048,576); a channel's end takes 2, an event loop 4",
          advice: [Advice("raise the limit as far as you may", command: "ulimit -n 524288")]),
      ])
    #expect(diagnosis.isUsable)
  }

  @Test("A small hard limit takes root to raise") func smallHardLimit() throws {
    let diagnosis = try Diagnosis.of {
      $0.limits.openFiles = ResourceLimit(soft: .finite(64), hard: .finite(256))
      $0.limits.openFilesCeiling = 4096
    }
    #expect(
      diagnosis.complaints.flatMap(\.advice) == [
        Advice("raise the limit of this shell, as root", command: "sudo prlimit --pid $$ --nofile=4096:4096")
      ])
  }

  @Test("With descriptors for not even one channel, nothing can be shared", arguments: [0, 3, 7, 8] as [UInt64])
  func noRoomAtAll(openFiles: UInt64) throws {
    let diagnosis = try Diagnosis.of { $0.limits.openFiles.soft = .finite(openFiles) }
    #expect(!diagnosis.isUsable)
    #expect(diagnosis.complaints.map(\.level) == [.problem, .notice])
    #expect(diagnosis.room.byOpenFiles == 0)
  }

  @Test("Without a limit on open files, mappings are what runs out") func unlimitedOpenFiles() throws {
    let diagnosis = try Diagnosis.of { $0.limits.openFiles.soft = .unlimited }
    #expect(diagnosis.complaints.isEmpty)
    #expect(diagnosis.room.tightest == 65_400)
    #expect(diagnosis.text("channels")?.contains("65,400 shared with others, limited by mappings;") == true)
  }

  @Test("Few mappings, and few files for the whole system, are worth a notice each") func systemLimits() throws {
    let diagnosis = try Diagnosis.of {
      $0.limits.mappings = 1130
      $0.limits.systemFiles = 3997
    }
    #expect(diagnosis.room.tightest == 999)
    #expect(diagnosis.complaints.map(\.subject) == ["channels", "fs.file-max", "vm.max_map_count"])
    #expect(
      diagnosis.complaints.flatMap(\.advice).map(\.command) == [
        "sudo sysctl -w fs.file-max=1048576", "sudo sysctl -w vm.max_map_count=262144",
      ])
  }

  // MARK: Other limits

  @Test("A finite limit on file sizes keeps channels from growing") func finiteFileSize() throws {
    let diagnosis = try Diagnosis.of {
      $0.limits.fileSizeBytes.soft = .finite(1 << 30)
      $0.memory.memfd.growth = .failed(EFBIG)
      $0.memory.posixSharedMemory.growth = .failed(EFBIG)
    }
    let error = Outcome.failed(EFBIG).description
    #expect(diagnosis.isUsable)
    #expect(
      diagnosis.complaints == [
        Finding(
          .memory, .notice, "memfd",
          "can be made but cannot grow (\(error)): a channel can hold no more than it began with"),
        Finding(.memory, .notice, "shm_open", "can be made but cannot grow (\(error))"),
        Finding(
          .limits, .notice, "file size",
          "1 GiB: channels cannot grow, and posting fails once unread messages fill the memory that a channel began "
            + "with (its sparse file reaches to 3 TiB)",
          advice: [Advice("lift the limit", command: "ulimit -f unlimited")]),
      ])
  }

  @Test("A limit on file sizes beyond what channels reach is none") func largeFileSize() throws {
    #expect(try Diagnosis.of { $0.limits.fileSizeBytes.soft = .finite(3 << 40) }.complaints.isEmpty)
  }

  @Test("With a limit on file sizes that leaves no room for a page, nothing can be shared") func tinyFileSize() throws {
    let diagnosis = try Diagnosis.of {
      $0.limits.fileSizeBytes = ResourceLimit(soft: .finite(1024), hard: .finite(1024))
      $0.memory.memfd = .impossible(EFBIG)
      $0.memory.posixSharedMemory = .impossible(EFBIG)
    }
    #expect(!diagnosis.isUsable)
    #expect(
      diagnosis.complaints.first?.advice == [
        Advice("lift the limit of this shell, as root", command: "sudo prlimit --pid $$ --fsize=unlimited:unlimited")
      ])
  }

  @Test("A finite address space is worth a notice") func finiteAddressSpace() throws {
    let diagnosis = try Diagnosis.of { $0.limits.addressSpaceBytes.soft = .finite(2 << 30) }
    #expect(
      diagnosis.complaints == [
        Finding(
          .limits, .notice, "address space",
          "2 GiB: the memory of channels counts, and grows with unread messages",
          advice: [Advice("lift the limit", command: "ulimit -v unlimited")])
      ])
  }

  @Test("A small send buffer holds few messages with ports") func smallSendBuffer() throws {
    let diagnosis = try Diagnosis.of { $0.sockets.raisedSendBufferBytes = 76_800 }
    #expect(
      diagnosis.complaints == [
        Finding(
          .limits, .notice, "sockets",
          "up to 75 KiB of send buffer, 208 KiB at first: about 100 messages with a port can wait unread in a channel; "
            + "net.unix.max_dgram_qlen = 512 does not limit them",
          advice: [Advice("to enlarge it, as root", command: "sudo sysctl -w net.core.wmem_max=4194304")])
      ])
  }

  @Test("Without Unix sockets nothing can be shared") func noSockets() throws {
    let diagnosis = try Diagnosis.of { $0.sockets.pair = .failed(EAFNOSUPPORT) }
    #expect(!diagnosis.isUsable)
  }

  // MARK: Processes

  @Test("One processor, no membarrier and no pidfd are worth a notice each") func poorMachine() throws {
    let diagnosis = try Diagnosis.of {
      $0.processes.usableProcessors = 1
      $0.processes.membarrier = false
      $0.processes.pidfd = .failed(ENOSYS)
    }
    #expect(
      diagnosis.complaints == [
        Finding(
          .processes, .notice, "processors",
          "1 usable: spinning would keep the peer from running, so ports sleep at once, and waking costs a switch"),
        Finding(
          .processes, .notice, "membarrier", "not available: posting to a receiver that polls costs a fence"),
        Finding(
          .processes, .notice, "pidfd", "worker processes cannot be spawned: \(Outcome.failed(ENOSYS))"),
      ])
  }

  @Test("A sandbox that cannot be made names the setting that forbids it") func forbiddenSandbox() throws {
    let diagnosis = try Diagnosis.of {
      $0.sandbox.apparmorRestrictsUserNamespaces = 1
      $0.sandbox.bubblewrap?.complaint = "bwrap: setting up uid map: Permission denied"
    }
    #expect(
      diagnosis.complaints == [
        Finding(
          .processes, .notice, "sandbox",
          "/usr/bin/bwrap cannot make one (bwrap: setting up uid map: Permission denied): "
            + "kernel.apparmor_restrict_unprivileged_userns = 1; only sandboxed workers need it",
          advice: [
            Advice(
              "to permit it, as root", command: "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
          ])
      ])
  }

  @Test("A machine without bubblewrap is worth a notice") func noBubblewrap() throws {
    #expect(try Diagnosis.of { $0.sandbox.bubblewrap = nil }.complaints.map(\.subject) == ["sandbox"])
  }
}
