/// One thing that the doctor has to say.
package struct Finding: Codable, Hashable, Sendable {
  package enum Level: String, Codable, Sendable {
    case ok
    /// Message ports work, but not as well as they could, or not all of them, or with a surprise.
    case notice
    /// Message ports between processes cannot work until this is changed.
    case problem
  }

  /// Findings on one topic stand together.
  package enum Topic: String, Codable, Sendable, CaseIterable {
    case eventLoop = "Event loop"
    case memory = "Memory"
    case limits = "Limits"
    case processes = "Processes"
  }

  package var topic: Topic
  package var level: Level
  /// The subject, in a word or two.
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
  /// Exactly what to type.
  package var command: String?

  package init(_ text: String, command: String? = nil) {
    self.text = text
    self.command = command
  }
}

extension Diagnosis {
  /// Advice that takes root, which the reader may not be.
  func adviceForRoot(_ text: String, _ command: String) -> Advice {
    facts.processes.isRoot ? Advice(text, command: command) : Advice("\(text), as root", command: "sudo \(command)")
  }
}
