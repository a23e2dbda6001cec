// Kills a process at each numbered step of the library, and at random moments, and checks what the survivor sees.
//
//     CrashTrials steps [STEP]        every step in every situation; needs a build with -D CRASH_POINTS
//     CrashTrials random COUNT [SEED] COUNT kills at random moments; works in any build

import Foundation
import MessagePorts
import SharedRing
import TestSupport

func playVictim(_ arguments: [String]) throws {
  let journal = Journal(path: arguments[0])
  let parent = try Connection.parent
  parent.onClose = { _ in exit(0) }
  parent.handle { registration in
    Victim.answer(&registration, journal)
    registration.on("port") { event in
      let port = event.ports[0]
      Thread {
        if arguments.count > 2 { CrashPoint.arm(CrashPoint(rawValue: arguments[1])!, pass: Int(arguments[2])!) }
        do { try Victim(port, journal, parent).run() } catch { fatalError("the victim cannot go on: \(error)") }
      }.start()
    }
  }
  while true { pause() }
}

/// Sends each port that comes back.
func playBouncer() throws {
  let parent = try Connection.parent
  parent.onClose = { _ in exit(0) }
  parent.on("carrier") { event in
    let carrier = event.ports[0]
    carrier.onMessage = { [weak carrier] event in try? carrier?.postMessage(bytes: event.bytes, transfer: event.ports) }
  }
  while true { pause() }
}

/// Starts everything that stays for good once it is needed. Returns the port that others are moved over, and the
/// process at its other end.
func prepare() throws -> (carrier: MessagePort, bouncer: WorkerProcess) {
  setLimit(RLIMIT_NOFILE, nil)
  let bouncer = try WorkerProcess.spawn(CommandLine.arguments[0], arguments: ["bouncer"])
  let channel = try MessageChannel(options: ChannelOptions(laneCapacityBytes: 1 << 20))
  try bouncer.connection.postMessage("carrier", transfer: [channel.port2])
  let trial = try MessageChannel()
  try channel.port1.postMessage(bytes: [], transfer: [trial.port2])
  _ = try channel.port1.receive(timeout: .seconds(30))
  // What tasks need.
  let done = DispatchSemaphore(value: 0)
  Task(executorPreference: EventLoop.default) {
    try? await Task.sleep(for: .milliseconds(1))
    done.signal()
  }
  done.wait()
  usleep(100_000)
  return (channel.port1, bouncer)
}

func trySteps(_ only: String?) throws -> Bool {
  guard CrashPoint.areCompiledIn else {
    print("CrashTrials: this build has no crash points; see make crash")
    exit(64)
  }
  let (carrier, bouncer) = try prepare()
  defer { withExtendedLifetime(bouncer) {} }
  func pad(_ text: String, _ width: Int) -> String { text.padding(toLength: width, withPad: " ", startingAt: 0) }
  print(pad("step", 28) + Situation.allCases.map { pad($0.rawValue, 18) }.joined())
  print("(messages received / posts that had returned, at the first pass and at the third; - : not reached)")
  var trials = 0
  var wrong: [String] = []
  var reached: Set<CrashPoint> = []
  for point in CrashPoint.allCases where only == nil || point.rawValue == only {
    var row = pad(point.rawValue, 28)
    for situation in Situation.allCases {
      var cell: [String] = []
      for pass in [1, 3] {
        trials += 1
        switch try Trial(cause: .step(point, pass: pass), situation: situation).run(carrier) {
        case .right(let posted, let received):
          reached.insert(point)
          cell.append("\(received)/\(posted)")
        case .notReached: cell.append("-")
        case .wrong(let what):
          reached.insert(point)
          wrong.append("\(point), \(situation), pass \(pass): \(what)")
          print(wrong.last!)
          fflush(nil)
          cell.append("WRONG")
        }
      }
      row += pad(cell.joined(separator: " "), 18)
    }
    print(row)
    fflush(nil)
  }
  for point in CrashPoint.allCases where only == nil && !reached.contains(point) {
    wrong.append("\(point) was never reached")
  }
  print("\(trials) trials, \(reached.count) steps reached, \(wrong.count) wrong")
  return wrong.isEmpty
}

func tryRandomly(_ count: Int, seed: Int) throws -> Bool {
  let (carrier, bouncer) = try prepare()
  defer { withExtendedLifetime(bouncer) {} }
  var random = SeededGenerator(seed: seed)
  var wrong: [String] = []
  var (posted, received) = (0, 0)
  for number in 1...count {
    let situation = Situation.allCases.randomElement(using: &random)!
    let moment = UInt32.random(in: 0...10_000, using: &random)
    switch try Trial(cause: .moment(moment), situation: situation).run(carrier) {
    case .right(let returned, let came):
      posted += returned
      received += came
    case .notReached: break
    case .wrong(let what):
      wrong.append("kill \(number), \(situation), after \(moment) us: \(what)")
      print(wrong.last!)
      fflush(nil)
    }
    if number % 1000 == 0 || number == count || wrong.count > 10 {
      print("\(number) kills, \(posted) posts had returned, \(received) messages received, \(wrong.count) wrong")
      fflush(nil)
    }
    if wrong.count > 10 { break }
  }
  if !wrong.isEmpty { print("seed \(seed)") }
  return wrong.isEmpty
}

let arguments = Array(CommandLine.arguments.dropFirst())
switch arguments.first {
case "victim": try playVictim(Array(arguments.dropFirst()))
case "bouncer": try playBouncer()
case "steps": exit(try trySteps(arguments.dropFirst().first) ? 0 : 1)
case "random":
  let count = arguments.dropFirst().first.flatMap { Int($0) } ?? 100
  exit(try tryRandomly(count, seed: arguments.dropFirst(2).first.flatMap { Int($0) } ?? testSeed()) ? 0 : 1)
default:
  print("usage: CrashTrials steps [STEP] | random [COUNT [SEED]]")
  exit(64)
}
