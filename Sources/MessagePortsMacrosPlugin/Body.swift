#if Macros
  /// What the two requirements do, as source.
  struct Body: Equatable {
    /// Statements that write into `entries`.
    var write: [String]
    /// Statements that set `self` from `entries`; nil for a type that has nothing to be read, whatever the message has.
    var read: [String]?

    func members(access: String) -> String {
      var lines = [
        "\(access)func write(to writer: inout MessagePorts.ValueWriter) {",
        "  writer.writeEntries(of: self) { \(write.isEmpty ? "_" : "entries") in",
      ]
      lines += write.map { "    \($0)" }
      lines += ["  }", "}", ""]
      if let read {
        lines += [
          "\(access)init(from reader: inout MessagePorts.ValueReader) throws {",
          "  try self.init(fromEntriesOf: &reader) { entries in",
          "    try Self(from: &entries)",
          "  }",
          "}",
          "",
          "@inline(__always)",
          "private init(from entries: inout MessagePorts.EntryReader) throws {",
        ]
        lines += read.map { "  \($0)" }
        lines.append("}")
      } else {
        lines += ["\(access)init(from reader: inout MessagePorts.ValueReader) throws {", "}"]
      }
      return "\n" + lines.map { $0.isEmpty ? "" : "  \($0)" }.joined(separator: "\n") + "\n"
    }
  }
#endif
