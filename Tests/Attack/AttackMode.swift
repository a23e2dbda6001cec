/// What an attacker is after. ``chaos`` is played by ``Chaos``; each other mode is a file of the same name in
/// `Tests/Attacker/modes`, where nothing of the library is used.
enum AttackMode: String, CaseIterable {
  /// Does everything at random, with the library's own rings: scribbles, lies, floods, forges, stalls, comes and goes.
  case chaos
  /// Moves the victim's sleepers from the doorbell to another word.
  case requeue
  /// Sends files that change between two looks, or that are not what they look like.
  case files
  /// Sends descriptors whose closing takes long.
  case descriptors
  /// Chooses the victim's limits.
  case limits
  /// Makes one turn of the victim's long or large.
  case turns
  /// Keeps the victim busy or deaf by what it writes into doorbells.
  case doorbells
  /// Hides its death.
  case death
  /// Says what no value can be.
  case bytes
  /// Hangs up one half of its sockets, and is a server that is none.
  case halves
  /// Sends messages with descriptors, of every kind and in wrong numbers.
  case cargo

  /// The program that plays it, and its arguments.
  func command(path: String, seed: Int) -> (program: String, arguments: [String]) {
    if self == .chaos { return (CommandLine.arguments[0], ["play-chaos", path, "\(seed)"]) }
    let directory = CommandLine.arguments[0].split(separator: "/", omittingEmptySubsequences: false).dropLast()
    return ((directory + ["Attacker"]).joined(separator: "/"), [rawValue, path, "\(seed)"])
  }

  /// Modes by name, joined by `+`; `nil` if one is unknown.
  static func list(_ text: some StringProtocol) -> [AttackMode]? {
    let names = text.split(separator: "+")
    let modes = names.compactMap { AttackMode(rawValue: String($0)) }
    return modes.count == names.count && !modes.isEmpty ? modes : nil
  }

  static func text(_ modes: [AttackMode]) -> String { modes.map(\.rawValue).joined(separator: "+") }
}
