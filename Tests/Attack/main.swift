// Attacks a process of ours with others that want its harm, and says how it fared: see README.md.

import Glibc
import MessagePorts
import TestSupport

let usage = """
  usage: AttackTrials MODE[+MODE…] | all | random [--seconds S] [--seed N] [--excess MILLISECONDS]
  modes: \(AttackMode.allCases.map(\.rawValue).joined(separator: ", "))
  """

func stop(_ text: String) -> Never {
  print(text)
  exit(64)
}

/// The value of an option.
func option(_ name: String, _ otherwise: Double) -> Double {
  guard let index = CommandLine.arguments.firstIndex(of: name) else { return otherwise }
  guard index + 1 < CommandLine.arguments.count, let value = Double(CommandLine.arguments[index + 1]) else {
    stop(usage)
  }
  return value
}

let arguments = Array(CommandLine.arguments.dropFirst())
switch arguments.first {
case "play-chaos":
  let victim = try Connection.parent
  victim.onClose = { _ in exit(0) }
  Chaos.play(path: arguments[1], seed: Int(arguments[2])!)
case "victim":
  // The trial that has started it wants no victim to outlive it.
  let parent = try Connection.parent
  parent.onClose = { _ in exit(70) }
  let excess = Double(arguments[4])!
  let victim = Victim(AttackMode.list(arguments[1])!, seconds: Double(arguments[2])!, seed: Int(arguments[3])!)
  let report = try victim.bear()
  let faults = report.faults(excessMilliseconds: excess > 0 ? excess : nil)
  print(report.text(faults))
  exit(faults.isEmpty ? 0 : 1)
case .some(let name):
  let trials = AttackTrials(
    seconds: option("--seconds", 60), seed: Int(option("--seed", Double(UInt32.random(in: 0 ... .max)))),
    excessMilliseconds: option("--excess", 0))
  switch name {
  case "all": exit(try trials.each() ? 0 : 1)
  case "random": exit(try trials.random() ? 0 : 1)
  default:
    guard let modes = AttackMode.list(name) else { stop(usage) }
    exit(try trials.run(modes) ? 0 : 1)
  }
case nil: stop(usage)
}
