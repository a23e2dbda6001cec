import MessagePortsTool
import Testing

@Suite("Memory limits of control groups") struct CgroupTests {
  private func limit(_ files: [String: String]) -> CgroupMemory? { KernelFiles { files[$0] }.cgroupMemory() }

  @Test("Version 2: the tightest of the group and those around it counts") func tightest() {
    let files = [
      "/proc/self/cgroup": "0::/work/job\n",
      "/sys/fs/cgroup/work/job/memory.max": "max\n",
      "/sys/fs/cgroup/work/memory.max": "1000000\n",
      "/sys/fs/cgroup/work/memory.current": "5000\n",
    ]
    #expect(
      limit(files) == CgroupMemory(limitBytes: 1_000_000, usedBytes: 5000, path: "/sys/fs/cgroup/work/memory.max"))
  }

  @Test("Version 1: the controller's own hierarchy counts, and its way to say unlimited") func versionOne() {
    var files = [
      "/proc/self/cgroup": "4:memory:/job\n3:cpu,cpuacct:/\n0::/\n",
      "/sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
    ]
    #expect(limit(files) == nil)
    files["/sys/fs/cgroup/memory/memory.limit_in_bytes"] = "4096\n"
    #expect(
      limit(files)
        == CgroupMemory(limitBytes: 4096, usedBytes: nil, path: "/sys/fs/cgroup/memory/memory.limit_in_bytes"))
  }

  @Test("In a container, a path that only the host sees leads to the container's own limit") func container() {
    let files = [
      "/proc/self/cgroup": "0::/docker/0123abcd\n",
      "/sys/fs/cgroup/memory.max": "536870912\n",
    ]
    #expect(limit(files)?.limitBytes == 536_870_912)
  }

  @Test("No control groups, or nonsense about them, is no limit", arguments: [nil, "", "x", "0:", "0::"] as [String?])
  func nothing(text: String?) { #expect(KernelFiles { $0 == "/proc/self/cgroup" ? text : nil }.cgroupMemory() == nil) }
}
