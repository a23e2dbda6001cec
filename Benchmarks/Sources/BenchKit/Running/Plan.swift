/// All that is measured: cells in an order in which those that give limits to others come with them.
public enum Plan {
  /// - Parameter only: a metric's name, or nothing.
  public static func cells(peers: Bool, only: String?) -> [Cell] {
    let all =
      oneWaySizes.map(oneWay) + inPlaceSizes.map(inPlace) + roundTripSizes.map(pollingRoundTrip) + sleeping
      + [codable, requests, stream, creation] + transfers + descriptors + [deathNotice, manyPorts] + memory
    return all.filter { cell in
      guard let only else { return true }
      let name =
        cell.metric == .messages && only == Metric.bytes.rawValue ? Metric.bytes.rawValue : cell.metric.rawValue
      return name == only
    }.map { peers ? $0.withPeers() : $0 }
  }

  static let inPlaceSizes = [1024, 8192, 65536, 1 << 20]
  static let oneWaySizes = [8, 64, 1024, 8192, 65536, 1 << 20]
  static let roundTripSizes = [8, 64, 256, 1024, 8192, 65536]

  private static func limit(_ metric: String, _ who: String, size: Int? = nil, variant: String? = nil) -> Contender {
    .program(Program(name: "limits", tier: .limit, metric: metric, size: size, who: who, variant: variant))
  }

  // MARK: One way

  private static func oneWay(_ size: Int) -> Cell {
    let ring = FastTier.capacity(size) >> 10
    let copies =
      "copied from a warm buffer into the ring and out of it into a warm buffer, both ends of each message checked"
    let fastNote = "\(copies); ring of \(ring) KiB; reader polls, so no fence; published one by one"
    let portNote =
      "copied from a warm buffer into the ring and out of it into the event, which the handler checks at both ends; ring grows by itself, up to 1 MiB; with a fence"
    let base = Job("fast-one-way").with { $0.size = size }
    let port = Job("port-one-way").with { $0.size = size }
    func receiving(_ receive: Job.Receive, _ variant: String) -> Contender {
      .ours(OurCase(tier: .port, variant: variant, job: port.with { $0.receive = receive }, note: portNote))
    }
    var contenders: [Contender] = [
      limit(Metric.bytes.rawValue, "memcpy", size: size, variant: "ring256k"),
      .ours(OurCase(tier: .fast, job: base, note: fastNote)),
    ]
    if size <= 1024 {
      let note = "\(copies); ring of \(ring) KiB; reader polls, so no fence"
      contenders += [
        .ours(
          OurCase(
            tier: .fast, variant: "batch64", job: base.with { $0.batch = 64 },
            note: "\(note); written one by one, published 64 at a time")),
        .ours(
          OurCase(
            tier: .fast, variant: "run64",
            job: base.with {
              $0.batch = 64
              $0.inRuns = true
            }, note: "\(note); written and read up to 64 at a time")),
      ]
    }
    contenders.append(receiving(.handler, ""))
    if size == 8 || size == 65536 {
      contenders.append(
        .ours(
          OurCase(
            tier: .port, variant: "posix memory", job: port.with { $0.backing = "posixSharedMemory" }, note: portNote)))
    }
    if size == 8 {
      contenders += [
        receiving(.sequence, "async sequence"), receiving(.sequenceOnLoop, "async sequence on the loop"),
        receiving(.batches, "async batches"), receiving(.batchesOnLoop, "async batches on the loop"),
        receiving(.blocking, "blocking receive"),
        .ours(OurCase(tier: .port, variant: "epoll", job: port.with { $0.driver = "epoll" }, note: portNote)),
        .ours(
          OurCase(
            tier: .fast, variant: "posix memory", job: base.with { $0.backing = "posixSharedMemory" }, note: fastNote)),
      ]
    }
    contenders.append(limit(Metric.bytes.rawValue, "memcpy", size: size, variant: "ring1024k"))
    if size >= 1024 { contenders.append(limit(Metric.bytes.rawValue, "rep_movsb", size: size, variant: "ring1024k")) }
    return Cell(
      metric: .messages, size: size, title: "one way, \(bytes(size))", contenders: contenders,
      limit: .best(["memcpy", "rep_movsb"]))
  }

  /// Written and read where it lies.
  private static func inPlace(_ size: Int) -> Cell {
    let note =
      "each word written into the ring and read there, nothing copied; ring of \(FastTier.capacity(size) >> 10) KiB; reader polls, so no fence; published one by one"
    return Cell(
      metric: .inPlace, size: size, title: "one way in place, \(bytes(size))",
      contenders: [
        limit(Metric.inPlace.rawValue, "words", size: size),
        .ours(OurCase(tier: .fast, job: Job("in-place").with { $0.size = size }, note: note)),
      ], limit: .best(["words"]))
  }

  // MARK: Round trips

  private static func pollingRoundTrip(_ size: Int) -> Cell {
    let fast = Job("fast-round-trip").with { $0.size = size }
    let note = "both sides spin; copied in and out on each side, and checked"
    var contenders: [Contender] = [
      limit(Metric.pollingRoundTrip.rawValue, "cache_line"),
      .ours(OurCase(tier: .fast, job: fast, note: "\(note); ring of \(FastTier.capacity(size) >> 10) KiB, no fence")),
    ]
    if size == 8 {
      let port = Job("port-round-trip").with { $0.receive = .polling }
      let handlers = Job("port-round-trip-handlers")
      contenders += [
        .ours(OurCase(tier: .fast, variant: "unpinned", job: fast.with { $0.placement = .unpinned }, note: note)),
        .ours(
          OurCase(
            tier: .port, variant: "polling receive", job: port,
            note: "receive that never sleeps here, tryReceive in a loop there; with fences")),
        .ours(
          OurCase(
            tier: .port, job: handlers,
            note: "handlers on both sides; loops look around before they sleep, so that they never do here; with fences"
          )),
        .ours(
          OurCase(
            tier: .port, variant: "unpinned", job: handlers.with { $0.placement = .unpinned },
            note: "handlers on both sides; the scheduler places the threads")),
        .ours(
          OurCase(
            tier: .port, variant: "request", job: Job("request-round-trip"),
            note: "a task on the loop here, a handler of requests there; with fences")),
      ]
    }
    return Cell(
      metric: .pollingRoundTrip, size: size, title: "round trip polling, \(bytes(size))", contenders: contenders,
      limit: size == 8 ? .best(["cache_line"]) : .bounceAndCopies)
  }

  /// Sides that do not look around before they sleep. Not those that the scheduler places: both sides may use two processors
  /// then, and look around, which is measured among the round trips that poll.
  private static let sleeping: [Cell] = [
    sleepingCell(.sleepingRoundTrip, "rtt_sleep_ns", .twoCores, "two cores"),
    sleepingCell(.sleepingRoundTrip, "rtt_sleep_awake_ns", .twoCores, "awake"),
    sleepingCell(.sleepingRoundTripOnOneCore, "rtt_sleep_onecore_ns", .oneCore, "one core"),
  ]

  private static func sleepingCell(_ metric: Metric, _ program: String, _ placement: Placement, _ name: String) -> Cell
  {
    let isAwake = name == "awake"
    let place: String
    switch (placement, isAwake) {
    case (.twoCores, false): place = "two cores, which halt while nobody runs"
    case (.twoCores, true): place = "two cores, kept from halting by a process of the lowest class on each"
    case (.oneCore, _), (.unpinned, _): place = "both sides on one core"
    }
    let suffix = name == "two cores" || placement == .oneCore ? "" : name
    func ours(
      _ tier: Tier, _ variant: String, _ scenario: String, driver: String? = nil, ports: Int = 1
    ) -> Contender {
      let job = Job(scenario).with {
        $0.placement = placement
        $0.looksAround = false
        $0.receive = .blocking
        $0.ports = ports
        $0.driver = driver
      }
      let label = [variant, suffix].filter { !$0.isEmpty }.joined(separator: ", ")
      return .ours(OurCase(tier: tier, variant: label, job: job, awake: isAwake, note: "both sleep; \(place)", size: 8))
    }
    let contenders: [Contender] = [
      limit(program, "futex"), limit(program, "eventfd"), limit(program, "io_uring_msg_ring"),
      limit(program, "io_uring_eventfd"),
      ours(.fast, "", "fast-sleeping"), ours(.port, "", "port-round-trip"),
      ours(.port, "handlers", "port-round-trip-handlers"),
      ours(.port, "handlers on epoll", "port-round-trip-handlers", driver: "epoll"),
      ours(.port, "request", "request-round-trip"), ours(.port, "set of one", "port-round-trip-set"),
      ours(.port, "set of 10,000", "port-round-trip-set", ports: 10_000),
      limit(program, "unix_seqpacket", size: 8), limit(program, "pipe", size: 8),
    ]
    return Cell(
      metric: metric, size: 8, title: "round trip sleeping, \(name)", contenders: contenders,
      limit: .best(["futex", "eventfd", "io_uring_msg_ring", "io_uring_eventfd", "unix_seqpacket", "pipe"]),
      dependsOnDistance: placement != .oneCore)
  }

  // MARK: The rest

  private static let codable = Cell(
    metric: .codable, size: nil, title: "values",
    contenders: [
      limit(Metric.bytes.rawValue, "memcpy", size: 64, variant: "ring256k"),
      .ours(
        OurCase(
          tier: .port, job: Job("codable"),
          note: "an object of five fields, one nested; encoded, posted, decoded, handler; Codable")),
      .ours(
        OurCase(
          tier: .port, variant: directValues, job: Job("message-values"),
          note: "the same object, which writes itself into the message and reads itself out of it")),
    ],
    limit: .best(["memcpy"]))

  static let directValues = "MessageValue"

  private static let requests = Cell(
    metric: .requests, size: nil, title: "requests",
    contenders: [limit(Metric.bytes.rawValue, "memcpy", size: 64, variant: "ring256k")]
      + [1, 64].map { count in
        .ours(
          OurCase(
            tier: .port, variant: "\(count) under way", job: Job("requests").with { $0.batch = count },
            note: "8 bytes there and back; so many tasks on the loop here, handlers of requests there"))
      },
    limit: .best(["memcpy"]))

  private static let stream = Cell(
    metric: .stream, size: nil, title: "streams",
    contenders: [limit(Metric.bytes.rawValue, "memcpy", size: 65536, variant: "ring1024k")]
      + [1024, 65000].map { size in
        .ours(
          OurCase(
            tier: .port, variant: "elements of \(size) bytes", job: Job("stream").with { $0.size = size },
            note: "[UInt8], encoded and decoded; the writer waits when the reader lags"))
      },
    limit: .best(["memcpy"]))

  private static let creation = Cell(
    metric: .creation, size: nil, title: "channels made and closed",
    contenders: [
      limit(Metric.creation.rawValue, "socketpair"),
      .ours(OurCase(tier: .port, job: Job("creation"), note: "MessageChannel made, both ports closed, in one process")),
      limit(Metric.creation.rawValue, "memfd"), limit(Metric.creation.rawValue, "memfd_mapped"),
      limit("page_fault_ns", "page_fault"), limit("page_fault_ns", "page_fault_mapped"),
      limit("page_fault_ns", "map_populate"),
    ],
    // What is made here never leaves the process: none of the bare calls bounds it.
    limit: .best([]), dependsOnDistance: false)

  private static let transfers: [Cell] = [
    transferCell(.transfer, "transfer_reply_per_s", .twoCores, ""),
    transferCell(.transfer, "transfer_reply_awake_per_s", .twoCores, "awake"),
    transferCell(.transfer, "transfer_reply_onecore_per_s", .oneCore, "one core"),
    transferCell(.pipelinedTransfer, "transfer_pipelined_per_s", .twoCores, ""),
  ]

  private static func transferCell(_ metric: Metric, _ program: String, _ placement: Placement, _ name: String) -> Cell
  {
    let isPipelined = metric == .pipelinedTransfer
    let note =
      "channel made, one port posted, first message over it received, closed; \(isPipelined ? "64 under way" : "one at a time, both sides sleep")"
    func ours(_ variant: String, _ change: (inout Job) -> Void) -> Contender {
      let job = Job("transfer").with {
        $0.placement = placement
        $0.looksAround = isPipelined
        $0.batch = isPipelined ? 64 : 1
        $0.receive = .blocking
        change(&$0)
      }
      let label = [variant, name].filter { !$0.isEmpty }.joined(separator: ", ")
      return .ours(OurCase(tier: .port, variant: label, job: job, awake: name == "awake", note: note))
    }
    var contenders = [limit(program, "socketpair_passed"), ours("") { _ in }]
    contenders.append(ours("handler there") { $0.receive = .handler })
    if name.isEmpty {
      contenders.append(ours("posix memory") { $0.backing = "posixSharedMemory" })
      contenders.append(ours("handler there, epoll") { ($0.receive, $0.driver) = (.handler, "epoll") })
      if !isPipelined { contenders.append(ours("looking around") { $0.looksAround = true }) }
    }
    contenders.append(limit(program, "socketpair_memfd_passed"))
    return Cell(
      metric: metric, size: nil,
      title: "ports transferred, \(isPipelined ? "64 under way" : "one at a time")\(name.isEmpty ? "" : ", \(name)")",
      contenders: contenders, limit: .best(["socketpair_passed"]),
      dependsOnDistance: placement != .oneCore)
  }

  /// Beside the same sockets passed by bare calls.
  private static let descriptors: [Cell] = [
    descriptorCell(.descriptor, "transfer_reply_per_s"),
    descriptorCell(.pipelinedDescriptor, "transfer_pipelined_per_s"),
  ]

  private static func descriptorCell(_ metric: Metric, _ program: String) -> Cell {
    let isPipelined = metric == .pipelinedDescriptor
    let under = isPipelined ? "64 under way" : "one at a time, both sides sleep"
    func ours(_ variant: String, _ receive: Job.Receive) -> Contender {
      let job = Job("descriptors").with {
        $0.looksAround = isPipelined
        $0.batch = isPipelined ? 64 : 1
        $0.receive = receive
      }
      let note = "socket pair made, one end posted as a descriptor, answered by one byte, both ends closed; \(under)"
      return .ours(OurCase(tier: .port, variant: variant, job: job, note: note))
    }
    return Cell(
      metric: metric, size: nil, title: "descriptors posted, \(isPipelined ? "64 under way" : "one at a time")",
      contenders: [limit(program, "socketpair_passed"), ours("", .blocking), ours("handler there", .handler)],
      limit: .best(["socketpair_passed"]))
  }

  private static let deathNotice: Cell = {
    func ours(_ variant: String, _ receive: Job.Receive) -> Contender {
      let job = Job("death").with {
        $0.looksAround = false
        $0.batch = 8
        $0.receive = receive
      }
      return .ours(
        OurCase(
          tier: .port, variant: variant, job: job,
          note: "from kill of the far process until the near one is told; both sleep; once for each of 8 processes"))
    }
    let metric = Metric.deathNotice.rawValue
    return Cell(
      metric: .deathNotice, size: nil, title: "a death noticed",
      contenders: [
        limit(metric, "pidfd"), ours("onClose", .handler), ours("blocking receive", .blocking),
        limit(metric, "socket_end"),
      ], limit: .best(["pidfd", "socket_end"]))
  }()

  /// 10,000, if enough descriptors are allowed: a port takes two in each process, and two more while it is on its way,
  /// as up to 64 are.
  static let mostPorts = min(10_000, (Machine.descriptorLimit - 400) / 200 * 100)

  private static let manyPorts = Cell(
    metric: .manyPorts, size: nil, title: "1, 100 and \(mostPorts) ports",
    contenders: [1, 100, mostPorts].map { count in
      let job = Job("many-ports").with {
        $0.ports = count
        $0.looksAround = false
        $0.seconds = 0.3
      }
      return .ours(
        OurCase(
          tier: .port, job: job,
          note:
            "relative to one port; round trips, each on the next port, blocking receive here, handler there, both sleep",
          size: count))
    },
    limit: .fixed(1, "one port"), isRelative: true)

  private static let memory: [Cell] = [
    Cell(
      metric: .memory, size: nil, title: "memory of idle ports, local",
      contenders: [
        .ours(
          OurCase(
            tier: .port, variant: "local", job: Job("memory-local").with { $0.ports = 20_000 },
            note: "resident memory, 20,000 ports"))
      ], limit: .fixed(1024, "1 KiB"), dependsOnDistance: false),
    Cell(
      metric: .memory, size: nil, title: "memory of idle ports, crossing",
      contenders: [
        .ours(
          OurCase(
            tier: .port, variant: "crossing", job: Job("memory-crossing").with { $0.ports = 2_000 },
            note: "resident memory per process, 2,000 ports; shared pages count on both sides; without the kernel's"))
      ], limit: .fixed(4096, "one page"), dependsOnDistance: false),
  ]

  private static func bytes(_ size: Int) -> String {
    size < 1024 ? "\(size) B" : size < 1 << 20 ? "\(size >> 10) KiB" : "\(size >> 20) MiB"
  }
}

extension Cell {
  /// The same with all peers that have such a figure.
  fileprivate func withPeers() -> Cell {
    let asked: (metric: String, size: Int?)
    switch metric {
    case .messages: asked = ((size ?? 0) > 8192 ? Metric.bytes.rawValue : metric.rawValue, size)
    case .pollingRoundTrip, .inPlace: asked = (metric.rawValue, size)
    case .sleepingRoundTrip where title.hasSuffix("two cores"), .sleepingRoundTripOnOneCore:
      asked = (metric.rawValue, 8)
    case .codable, .creation, .deathNotice: asked = (metric.rawValue, nil)
    case .transfer, .pipelinedTransfer:
      guard title.hasSuffix("time") || title.hasSuffix("way") else { return self }
      asked = (metric.rawValue, nil)
    default: return self
    }
    var cell = self
    for peer in Program.peers(with: metric) {
      cell.contenders.append(.program(Program(name: peer, tier: .peer, metric: asked.metric, size: asked.size)))
    }
    return cell
  }
}
