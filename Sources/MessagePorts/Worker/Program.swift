import CSupport
import Glibc

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
  static func check(_ bytes: [UInt8], _ what: String) throws(ConnectionError) {
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

  // MARK: Where it is

  /// The first of the places at which it can be executed, from the root on.
  var absolutePath: [UInt8] {
    get throws(ConnectionError) {
      var isForbidden = false
      for path in paths {
        guard Self.canBeExecuted(path, &isForbidden) else { continue }
        if path.first == UInt8(ascii: "/") { return path == Self.linkToThisProgram ? try Self.thisProgram : path }
        guard let directory = Self.link("/proc/self/cwd") else { break }
        return directory + [UInt8(ascii: "/")] + path
      }
      let name = String(decoding: arguments[0], as: UTF8.self)
      throw isForbidden ? .notPermitted(path: name) : .executableNotFound(name)
    }
  }

  private static func canBeExecuted(_ path: [UInt8], _ isForbidden: inout Bool) -> Bool {
    unsafe (path + [0]).withUnsafeBytes { bytes in
      guard let start = unsafe bytes.baseAddress?.assumingMemoryBound(to: CChar.self) else { return false }
      if unsafe csupport_path_kind(start) == CSUPPORT_PATH_DIRECTORY { return false }
      if unsafe access(start, X_OK) == 0 { return true }
      isForbidden = isForbidden || errno == EACCES
      return false
    }
  }

  /// Names this process's program until the new process has another.
  static let linkToThisProgram = Array("/proc/self/exe".utf8)

  /// Where this process's program is; `nil`: its file was removed or replaced, or `/proc` is not there.
  static var pathOfThisProgram: [UInt8]? {
    guard let path = link("/proc/self/exe") else { return nil }
    let text = String(decoding: path, as: UTF8.self)
    return unsafe access(text, X_OK) == 0 ? path : nil
  }

  private static var thisProgram: [UInt8] {
    get throws(ConnectionError) {
      guard let path = pathOfThisProgram else { throw .executableNotFound("/proc/self/exe") }
      return path
    }
  }

  private static func link(_ path: String) -> [UInt8]? {
    var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let count = unsafe target.withUnsafeMutableBytes { target in
      unsafe readlink(path, target.baseAddress!.assumingMemoryBound(to: CChar.self), target.count)
    }
    return count > 0 && count < target.count ? Array(target[..<count]) : nil
  }
}
