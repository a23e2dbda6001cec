/// One thing that the doctor has to say.
package struct Finding: Codable, Hashable, Sendable {
  package enum Level: String, Codable, Sendable {
    case ok
    /// Message ports work, but less well than they could, or not all of them, or something will surprise.
    case notice
    /// Message ports between processes cannot work until this is changed.
    case problem
  }

  /// Findings of one topic stand together.
  package enum Topic: String, Codable, Sendable, CaseIterable {
    case eventLoop = "Event loop"
    case memory = "Memory"
    case limits = "Limits"
    case processes = "Processes"
  }

  package var topic: Topic
  package var level: Level
  /// What it is about, in a word or two.
  package var subject: String
  package var text: String
  package var advice: [Advice]

  package init(_ topic: Topic, _ level: Level, _ subject: String, _ text: String, advice: [Advice] = []) {
    self.topic = topic
    self.level = level
    self.subject = subject
    self.text = text
    self.advice = advice
  }
}

/// What to do about it.
package struct Advice: Codable, Hashable, Sendable {
  /// When, or to what end.
  package var text: String
  /// What to type, exactly.
  package var command: String?

  package init(_ text: String, command: String? = nil) {
    self.text = text
    self.command = command
  }
}

extension Diagnosis {
  /// Advice that takes root: whoever reads it may not be.
  func adviceForRoot(_ text: String, _ command: String) -> Advice {
    facts.processes.isRoot ? Advice(text, command: command) : Advice("\(text), as root", command: "sudo \(command)")
  }
}
