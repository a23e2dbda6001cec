import MessagePorts
import TestSupport

let attackRoles: [String: Role] = [
  "attacker": attacker,
  "victim": victim,
]

/// Arguments: a listener's path, a seed. Attacks whoever listens there, in every manner at once, for ever.
@Sendable private func attacker(_ arguments: [String], _ parent: Connection) throws {
  for (number, manner) in AttackManner.allCases.enumerated() {
    startThread {
      var random = SeededGenerator(seed: Int(arguments[1])! &+ number)
      while true {
        // Whatever goes wrong, a listener that is not there yet or a victim that has hung up: once more.
        try? Attack(manner, path: arguments[0]).run(&random)
        usleepBriefly(1000)
      }
    }
  }
}

/// Arguments: seconds, a seed. Is attacked for so long, and reports how it fared.
@Sendable private func victim(_ arguments: [String], _ parent: Connection) throws {
  let report = try Victim(seed: arguments[1]).bear(seconds: Double(arguments[0])!)
  try LoneProcess.report(report, to: parent)
}
