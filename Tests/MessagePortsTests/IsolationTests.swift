import Glibc
import MessagePorts
import TestSupport
import Testing

/// What a process that holds a port, and nothing else, can get at.
@Suite("Isolation", .serialized, .timeLimit(.minutes(5)))
struct IsolationTests {
  // MARK: Without files and network

  @Test(
    "6.6 A process in an empty world talks on the port that it was handed, and passes ports on",
    .enabled("namespaces may not be made here") { await canConfine() })
  func emptyWorld() async throws {
    try await expectTalkingAndPassingOn(PeerProcess.spawn("confined", ["far"]))
  }

  @Test(
    "6.6 So does one that bubblewrap has confined",
    .enabled("bwrap is not installed, or may not make namespaces here") { await canUseBubblewrap() })
  func bubblewrap() async throws {
    // liburing.so.2 => /lib/x86_64-linux-gnu/liburing.so.2 (0x…)
    let libraries = try await ProgramRun.run("/usr/bin/ldd", [PeerProcess.executable]).output
    let files = Set(libraries.split { " \t\n".contains($0) }.filter { $0.hasPrefix("/") }.map(String.init))
      .union([PeerProcess.executable])
    let directories = Set(files.map { $0[..<$0.lastIndex(of: "/")!] }).sorted().joined(separator: ":")
    let options = ["--unshare-all", "--cap-drop", "ALL", "--proc", "/proc", "--setenv", "LD_LIBRARY_PATH", directories]
    let bindings = files.flatMap { ["--ro-bind", $0, $0] }
    let worker = try WorkerProcess.spawn(
      "bwrap", arguments: options + bindings + ["--remount-ro", "/", "--", PeerProcess.executable, "far"])
    try await expectTalkingAndPassingOn(worker)
  }

  private func expectTalkingAndPassingOn(_ worker: WorkerProcess) async throws {
    let confined = try Agent(in: worker), free = try Agent(.anotherProcess)
    let number = UInt64.random(in: 0 ... .max)
    let listener = try Listener(path: Agent.listenPath(number))
    let server = try LoopbackServer()
    #expect(try await confined.call(.reach, number, UInt64(server.port)).text == "")
    #expect(
      try await free.call(.reach, number, UInt64(server.port)).text
        == "read a file, see processes, make a file, reach the listener, use the network")
    listener.close()

    // It talks, also in messages for which memory has to grow.
    let channel = try MessageChannel()
    try await confined.call(.keep, 0, transfer: [channel.port2])
    try await confined.call(.post, 0, 0, 100)
    try await confined.call(.postBytes, 0, 3 << 20, 5)
    try await onThread { for number in 0..<100 as Range<UInt64> { try channel.port1.expect(number) } }
    let large = try await onThread { try channel.port1.receiveSoon() }
    #expect(large.bytes == patternBytes(count: 3 << 20, seed: 5))

    // It passes on a port of its own making, and one that is not.
    let link = try MessageChannel(), passing = try MessageChannel()
    try await confined.call(.keep, 1, transfer: [link.port1])
    try await free.call(.keep, 1, transfer: [link.port2])
    // POSIX shared memory has a name for a moment, and here there is no place for names.
    try await confined.call(.makeLocal, 2, 1)
    try await confined.call(.pass, 3, 1, 9)
    try await free.call(.take, 1, 2, 9)
    try await confined.call(.post, 2, 0, 10)
    try await free.call(.expect, 2, 0, 10)
    try passing.port1.postMessage(bitwise: 1 as UInt64)
    try await confined.call(.keep, 4, transfer: [passing.port2])
    try await confined.call(.pass, 4, 1, 10)
    try await free.call(.take, 1, 3, 10)
    try confined.begin(.die)
    _ = await worker.exitStatus
    try await free.call(.expect, 3, 1, 1)
    try await free.call(.post, 3, 2, 1)
    try await onThread { try passing.port1.expect(2) }
    // Its own have closed with it.
    try await free.call(.expectEnd, 2)
    try await onThread { try channel.port1.expectEnd() }
  }

  // MARK: What comes with a port

  @Test("9.5 Whoever holds a port has the memory of its channel, and of no other, not even of those it has passed on")
  func holdings() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let holder = try Agent(.anotherProcess)
        let channel = try MessageChannel()
        try await holder.call(.keep, 0, transfer: [channel.port2])
        // The connection to it, the channel of its orders, and this one.
        let its = Holdings.now()
        #expect(its.count == 3)
        let stranger = try await settledAgent()
        let others = try await makeChannels(10, stranger, firstKey: 0)
        let link = try MessageChannel()
        try await stranger.call(.keep, 20, transfer: [link.port2])
        // One that it has used and hands on, and what grew meanwhile.
        try await holder.call(.keep, 1, transfer: [link.port1])
        let passed = try MessageChannel()
        try await holder.call(.keep, 2, transfer: [passed.port2])
        try await holder.call(.postBytes, 2, 3 << 20, 1)
        try await holder.call(.pass, 2, 1, 7)
        try await stranger.call(.take, 20, 21, 7)
        try await holder.call(.release, 1)
        #expect(Holdings.now().count >= its.count + others.count)
        let expected = its.map(String.init).joined(separator: " ")
        let deadline = ContinuousClock.now + patience
        var text = try await holder.call(.holdings).text
        while text != expected, ContinuousClock.now < deadline { text = try await holder.call(.holdings).text }
        #expect(text == expected)
        withExtendedLifetime((channel, others, passed)) {}
      }
    }
  }

  @Test("9.5 Whoever holds a port can neither take its memory away, nor seal it, nor find anything behind its end")
  func prying() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let holder = try await settledAgent(), stranger = try await settledAgent()
        let other = try await makeChannels(1, stranger, firstKey: 0)[0]
        let before = Set(Holdings.now())
        let channel = try MessageChannel(options: ChannelOptions(backing: .memfd))
        try await holder.call(.keep, 0, transfer: [channel.port2])
        let inode = try #require(Set(Holdings.now()).subtracting(before).first)
        #expect(try await holder.call(.pry, inode).text == "")
        // All is as it was.
        try await holder.call(.post, 0, 0, 1000)
        try await onThread { for number in 0..<1000 as Range<UInt64> { try channel.port1.expect(number) } }
        try channel.port1.postMessage(bytes: patternBytes(count: 3 << 20, seed: 1))
        try await holder.call(.expectBytes, 0, 3 << 20, 1)

        let worker = try #require(holder.worker)
        try holder.begin(.readBehind, inode)
        #expect(await worker.exitStatus == .signalled(SIGBUS))
        try await onThread { try channel.port1.expectEnd() }
        try other.postMessage(bitwise: 5 as UInt64)
        try await stranger.call(.expect, 0, 5, 1)
      }
    }
  }

  // MARK: Inheritance

  @Test("9.2 Programs that are started while ports are made, sent and received inherit nothing of that")
  func startedAmidTraffic() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let link = try await makeChannels(1, agent, firstKey: 0)[0]
        try await agent.call(.echo, 0)
        let usual = try inheritedLinks()
        let isOver = Flag()
        let returned = Collected<Void>()
        let traffic = TestThread { try sendPortsToAndFro(link, until: isOver, returned) }
        let listener = try Listener(path: freshPath())
        defer { isOver.set() }
        var programs = 0
        while programs < 100 || (returned.count < 50 && !traffic.isFinished) {
          programs += 1
          let links = try inheritedLinks()
          #expect(links.isSubset(of: usual), "\(links.subtracting(usual))")
        }
        try await expectServing(listener)
        isOver.set()
        try traffic.join()
      }
    }
  }
}

/// Sends the ports of new channels out on `link`, and uses them when they come back; notes each that did.
private func sendPortsToAndFro(_ link: MessagePort, until isOver: Flag, _ returned: Collected<Void>) throws {
  while !isOver.isSet {
    let channel = try MessageChannel()
    try link.postMessage(bytes: [], transfer: [channel.port2])
    let port = try #require(link.receiveSoon().ports.first)
    try channel.port1.postMessage(bitwise: 1 as UInt64)
    try port.expect(1)
    returned.append(())
  }
}

/// The sockets, memory and kernel objects that a program inherits from this process now: one that is started as any
/// program might start it.
private func inheritedLinks() throws -> Set<String> {
  var pid: pid_t = 0
  let arguments = unsafe [strdup("sleep"), strdup("60"), nil]
  defer { unsafe arguments.forEach { unsafe free($0) } }
  let error = unsafe posix_spawnp(&pid, "sleep", nil, nil, arguments, environ)
  try #require(error == 0)
  let links = entries(of: "/proc/\(pid)/fd").compactMap { linkTarget("/proc/\(pid)/fd/\($0)") }
  kill(pid, SIGKILL)
  waitpid(pid, nil, 0)
  return Set(links.filter { link in ["memfd:", "/dev/shm", "anon_inode:", "socket:"].contains { link.contains($0) } })
}

/// Whether a `TestPeer` can be confined: then it gets as far as finding no such role.
func canConfine() async -> Bool {
  (try? await ProgramRun.run(PeerProcess.executable, ["confined", "no role"]).exitCode) == 64
}

private func canUseBubblewrap() async -> Bool {
  let arguments = ["bwrap", "--unshare-all", "--cap-drop", "ALL", "--ro-bind", "/", "/", "true"]
  return (try? await ProgramRun.run("/usr/bin/env", arguments).exitCode) == 0
}
