/// What a new process is to execute, and with what: bytes, as the kernel takes them.
struct Program: Sendable {
  /// Where it may be, the likeliest place first.
  let paths: [[UInt8]]
  let arguments: [[UInt8]]
  /// Each one `NAME=value`.
  var environment: [[UInt8]]

  /// Finds out where the program may be, and that all of it can be passed on.
  ///
  /// - Parameter environment: `nil`: this process's, as it is.
  init(
    _ executable: [UInt8], arguments: [[UInt8]], environment: [[UInt8]: [UInt8]]?
  ) throws(ConnectionError) {
    guard !executable.isEmpty else { throw .executableNotFound("") }
    try Self.check(executable, "the program's name")
    for (index, argument) in arguments.enumerated() { try Self.check(argument, "argument \(index + 1)") }
    for (name, value) in environment ?? [:] {
      let text = String(decoding: name, as: UTF8.self)
      guard !name.isEmpty else { throw .invalidOption("a variable has no name") }
      try Self.check(name, "the name of the variable \"\(text)\"")
      if name.contains(Self.equals) { throw .invalidOption("the name of the variable \"\(text)\" contains '='") }
      try Self.check(value, "the value of the variable \"\(text)\"")
    }
    paths = Self.places(of: executable)
    self.arguments = [executable] + arguments
    self.environment = environment.map { $0.map { $0.key + [Self.equals] + $0.value } } ?? Environment.entries
  }

  /// Gives a variable a value, instead of any that it has.
  mutating func setVariable(_ name: String, to value: String) {
    let start = Array("\(name)=".utf8)
    environment.removeAll { $0.starts(with: start) }
    environment.append(start + Array(value.utf8))
  }

  private static let equals = UInt8(ascii: "=")

  /// To the kernel, a zero byte is the end: what follows it would be lost without a word.
  private static func check(_ bytes: [UInt8], _ what: String) throws(ConnectionError) {
    if bytes.contains(0) { throw .invalidOption("\(what) contains a zero byte") }
  }

  /// A name with a slash is a path. Another is looked for in the directories of `PATH`, of which an empty one is the
  /// current directory.
  private static func places(of executable: [UInt8]) -> [[UInt8]] {
    let slash = UInt8(ascii: "/")
    if executable.contains(slash) { return [executable] }
    let directories = Environment.bytes("PATH") ?? Array("/usr/local/bin:/usr/bin:/bin".utf8)
    return directories.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false).map { directory in
      directory.isEmpty ? executable : directory + [slash] + executable
    }
  }
}
