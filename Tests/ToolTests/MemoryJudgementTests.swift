import Glibc
import MessagePortsTool
import SharedRing
import Testing

@Suite("The doctor on memory") struct MemoryJudgementTests {
  @Test("What the doctor takes for granted is what the library does") func agreesWithTheLibrary() {
    #expect(Diagnosis.Backing.allCases.map(\.rawValue) == MemoryBacking.allCases.map(\.rawValue))
    #expect(farthestByteOfAChannel == RingLayout.regionOffset(lane: 1) + RingLayout.regionBytes)
    #expect(pageBytes == UInt64(RingLayout.pageBytes))
  }

  @Test("Without memfd, but with shm_open, it takes a variable to work") func noMemfd() throws {
    let diagnosis = try Diagnosis.of { $0.memory.memfd = .impossible(ENOSYS) }
    let advice = Advice(
      "between processes that trust each other, use memory that cannot be sealed",
      command: "export MESSAGEPORTS_BACKING=posixSharedMemory")
    #expect(
      diagnosis.complaints == [
        Finding(.memory, .problem, "memfd", "cannot be made: \(Outcome.failed(ENOSYS))", advice: [advice])
      ])
    #expect(!diagnosis.isUsable)
  }

  @Test("With that variable it works") func noMemfdNorNeeded() throws {
    let diagnosis = try Diagnosis.of {
      $0.memory.memfd = .impossible(ENOSYS)
      $0.overrides.backing = "posixSharedMemory"
    }
    #expect(
      diagnosis.complaints == [
        Finding(.memory, .notice, "memfd", "cannot be made: \(Outcome.failed(ENOSYS))")
      ])
    #expect(diagnosis.isUsable)
    #expect(diagnosis.text("backing") == "posixSharedMemory, as MESSAGEPORTS_BACKING says")
    #expect(
      diagnosis.text("shm_open")
        == "works, but a peer can shrink it and so kill this process: only for processes that trust each other")
  }

  @Test("With neither memfd nor shm_open there is nothing to advise") func noMemoryAtAll() throws {
    let diagnosis = try Diagnosis.of {
      $0.memory.memfd = .impossible(ENOSYS)
      $0.memory.posixSharedMemory = .impossible(ENOENT)
      $0.memory.devShm = nil
    }
    #expect(
      diagnosis.complaints == [
        Finding(.memory, .problem, "memfd", "cannot be made: \(Outcome.failed(ENOSYS))"),
        Finding(.memory, .notice, "shm_open", "cannot make memory: \(Outcome.failed(ENOENT)); not needed"),
      ])
    #expect(!diagnosis.isUsable)
  }

  @Test("Memory that can be shrunk although sealed is as good as none") func unsealableMemfd() throws {
    let diagnosis = try Diagnosis.of { $0.memory.memfd.refusesToShrink = false }
    #expect(diagnosis.complaints.map(\.subject) == ["memfd"])
    #expect(diagnosis.complaints.map(\.level) == [.problem])
  }

  @Test("A full /dev/shm matters only to those who use it") func fullDevShm() throws {
    let unused = try Diagnosis.of(fillDevShm)
    #expect(unused.isUsable)
    #expect(
      unused.complaints == [
        Finding(.memory, .notice, "shm_open", "cannot make memory: \(Outcome.failed(ENOSPC)); not needed"),
        Finding(
          .memory, .notice, "/dev/shm", "0 bytes free of 64 MiB: it is full; channels in memfd do not need it"),
      ])

    let used = try Diagnosis.of {
      fillDevShm(&$0)
      $0.overrides.backing = "posixSharedMemory"
    }
    let enlarge = [
      Advice("to enlarge it, as root", command: "sudo mount -o remount,size=1G /dev/shm"),
      Advice("or, for a container", command: "docker run --shm-size=1g …"),
    ]
    #expect(!used.isUsable)
    #expect(
      used.complaints == [
        Finding(
          .memory, .problem, "shm_open", "cannot make memory: \(Outcome.failed(ENOSPC))",
          advice: enlarge + [Advice("use memfd, which works", command: "export MESSAGEPORTS_BACKING=memfd")]),
        Finding(
          .memory, .notice, "/dev/shm", "0 bytes free of 64 MiB: all channels together can hold no more",
          advice: enlarge),
      ])
  }

  private func fillDevShm(_ facts: inout MachineFacts) {
    facts.memory.posixSharedMemory = .impossible(ENOSPC)
    facts.memory.devShm?.sizeBytes = 64 << 20
    facts.memory.devShm?.freeBytes = 0
  }

  @Test("An unknown backing in the environment is worth a notice") func unknownBacking() throws {
    let diagnosis = try Diagnosis.of { $0.overrides.backing = "shm" }
    #expect(
      diagnosis.complaints == [
        Finding(
          .memory, .notice, "environment",
          "MESSAGEPORTS_BACKING=shm is ignored: it is neither memfd nor posixSharedMemory",
          advice: [Advice("to use the default, memfd", command: "unset MESSAGEPORTS_BACKING")])
      ])
    #expect(diagnosis.backing == .memfd)
  }

  @Test("A control group that is nearly full is worth a notice") func fullControlGroup() throws {
    let path = "/sys/fs/cgroup/work/memory.max"
    let roomy = try Diagnosis.of {
      $0.memory.cgroup = CgroupMemory(limitBytes: 1 << 30, usedBytes: 1 << 29, path: path)
    }
    #expect(roomy.complaints.isEmpty)
    #expect(roomy.text("memory limit") == "512 MiB in use of 1 GiB; the memory of channels counts")
    let full = try Diagnosis.of {
      $0.memory.cgroup = CgroupMemory(limitBytes: 1 << 30, usedBytes: 1000 << 20, path: path)
    }
    #expect(
      full.complaints == [
        Finding(
          .memory, .notice, "memory limit", "1000 MiB in use of 1 GiB; the memory of channels counts",
          advice: [Advice("to lift it, as root", command: "sudo sh -c 'echo max > \(path)'")])
      ])
  }
}

extension MemoryTrial {
  static func impossible(_ errno: CInt) -> MemoryTrial {
    MemoryTrial(creation: .failed(errno), growth: .failed(errno), refusesToShrink: false)
  }
}
