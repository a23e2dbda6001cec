import Foundation

/// A program of Benchmarks/peers, and what it is asked to measure: see the README there.
struct Program: Sendable {
  var name: String
  var tier: Tier
  var metric: String
  var size: Int?
  /// Only this one of its figures.
  var who: String?
  var variant: String?

  static let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "../../../peers")
    .standardizedFileURL.path

  private static let rings = ["ck_ring", "boost_spsc", "readerwriterqueue", "atomic_queue", "concurrentqueue"]
  private static let sleepers = [
    "readerwriterqueue", "boost_message_queue", "posix_mq", "zeromq_ipc", "nng", "nanomsg", "sd_bus", "grpc",
    "capnproto",
    "iceoryx",
  ]
  private static let javaScript = ["node_worker_threads", "node_child_process", "chromium_message_channel"]

  /// Those that have such a figure: to start the others takes time.
  static func peers(with metric: Metric) -> [String] {
    switch metric {
    case .messages, .bytes: rings + sleepers.dropFirst() + ["openmpi"] + javaScript
    case .pollingRoundTrip: rings + ["boost_message_queue", "openmpi", "iceoryx"]
    case .sleepingRoundTrip, .sleepingRoundTripOnOneCore: sleepers + javaScript
    case .inPlace: ["iceoryx"]
    case .codable: javaScript
    case .creation:
      ["boost_message_queue", "posix_mq", "zeromq_ipc", "node_worker_threads", "chromium_message_channel"]
    case .transfer, .pipelinedTransfer: ["node_worker_threads", "chromium_message_channel"]
    case .deathNotice: ["node_child_process"]
    default: []
    }
  }

  private var isJavaScript: Bool { name.hasPrefix("node_") || name.hasPrefix("chromium_") }

  /// What to start; `nil` if it is not there.
  private var command: [String]? {
    if isJavaScript {
      guard let node = Self.find("node"), !name.hasPrefix("chromium_") || Self.find("chromium") != nil else {
        return nil
      }
      return [node, "\(Self.directory)/\(name).js"]
    }
    let path = "\(Self.directory)/.build-peers/\(name)"
    return FileManager.default.isExecutableFile(atPath: path) ? [path] : nil
  }

  var isMissing: Bool { command == nil }

  /// One run. Figures that the program does not have are no error: then there are none.
  func run(seconds: Double) throws -> (observations: [Observation], failures: [(who: String, reason: String)]) {
    guard var command else { throw Machine.Failure(description: "missing") }
    command += ["--metric", metric, "--seconds", "\(isJavaScript ? max(seconds, 0.3) : seconds)"]
    if let size { command += ["--size", "\(size)"] }
    if let who { command += ["--who", who] }
    if let variant { command += ["--variant", variant] }
    let output = try Self.output(of: command, deadlineSeconds: 120)
    var observations: [Observation] = []
    var failures: [(who: String, reason: String)] = []
    for line in output.split(separator: "\n") where line.hasPrefix("{") {
      let figure = try JSONDecoder().decode(PeerLine.self, from: Data(line.utf8))
      if let observation = figure.observation(tier) {
        observations.append(observation)
      } else {
        failures.append((figure.who, figure.error ?? "no figure"))
      }
    }
    return (observations, failures)
  }

  private static func output(of command: [String], deadlineSeconds: Double) throws -> String {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: command[0])
    process.arguments = Array(command.dropFirst())
    process.currentDirectoryURL = URL(fileURLWithPath: directory)
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    try process.run()
    // SIGTERM lets it take down what it has started.
    let overdue = DispatchWorkItem { process.terminate() }
    DispatchQueue.global().asyncAfter(deadline: .now() + deadlineSeconds, execute: overdue)
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    overdue.cancel()
    return String(decoding: data, as: UTF8.self)
  }

  private static func find(_ name: String) -> String? {
    let directories = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
    return directories.split(separator: ":").map { "\($0)/\(name)" }.first(where: FileManager.default.isExecutableFile)
  }
}

/// A line of a peer's output.
private struct PeerLine: Decodable {
  var who: String
  var metric: String
  var variant: String?
  var size: Int?
  var value: Double?
  var unit: String
  var error: String?
  var note: String?
  var build: String?
  /// Nanoseconds, and how many took so long.
  var histogram: [[Double]]?
  var cacheLine: [Double]?
  var cpuNanoseconds: Double?
  var sleeps: Double?

  enum CodingKeys: String, CodingKey {
    case who, metric, variant, size, value, unit, error, note, build, histogram
    case cacheLine = "cache_line_ns"
    case cpuNanoseconds = "cpu_ns_per_message"
    case sleeps = "sleeps_per_message"
  }

  func observation(_ tier: Tier) -> Observation? {
    guard var value else { return nil }
    var name = metric
    var variants = variant.map { [$0] } ?? []
    for (part, label) in [("_onecore", "one core"), ("_awake", "awake")]
    where name.contains(part) && Metric(rawValue: name) == nil {
      name = name.replacingOccurrences(of: part, with: "")
      variants.append(label)
    }
    if name == "page_fault_ns" {  // As a rate, beside other things that are made.
      name = Metric.creation.rawValue
      value = 1e9 / value
    }
    // One way, everything is kept in messages; bytes follow from the size.
    if name == Metric.bytes.rawValue, let size {
      name = Metric.messages.rawValue
      value /= Double(size)
    }
    guard let metric = Metric(rawValue: name) else { return nil }
    var observation = Observation(
      key: FigureKey(who: who, tier: tier, metric: metric, size: size, variant: variants.joined(separator: ", ")),
      value: value, note: note ?? "", build: build ?? "")
    if metric.unit == "ns", let histogram {
      var latency = LatencyHistogram()
      for bucket in histogram where bucket.count == 2 { latency.record(nanoseconds: bucket[0], count: Int(bucket[1])) }
      observation.latency = latency
    }
    if let cpuNanoseconds { observation.cost = Cost(nanoseconds: cpuNanoseconds, sleeps: sleeps ?? 0) }
    if let cacheLine, cacheLine.count == 2 { observation.probes = (cacheLine[0], cacheLine[1]) }
    return observation
  }
}
