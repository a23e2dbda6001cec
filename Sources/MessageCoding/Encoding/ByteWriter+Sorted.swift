// Sorting the entries of keyed containers, when a message is complete.
extension ByteWriter {
  /// Puts the entries of each keyed container in the order of the bytes of their keys.
  ///
  /// Entries change places and keep their sizes, so that containers can be sorted from the outside in, in place.
  mutating func sortKeys() {
    var containers = [(start: 1, end: count)]
    // What is at the top level is one value, as if of an unkeyed container without a count.
    var isKeyed = [false]
    while let container = containers.popLast(), let keyed = isKeyed.popLast() {
      if keyed { sortEntries(from: container.start, to: container.end) }
      withReader { reader in
        var offset = container.start
        while offset < container.end {
          if keyed {
            guard let key = reader.key(at: offset, before: container.end) else { return }
            offset = key.end
          } else if let run = reader.run(at: offset, before: container.end) {
            offset = run.end
            continue
          }
          let value = reader.value(at: offset, before: container.end)
          guard value.tag != Tag.invalid else { return }
          if value.tag == Tag.keyed || value.tag == Tag.unkeyed {
            let isInner = value.tag == Tag.keyed
            containers.append((Int(value.start) + (isInner ? 0 : 4), Int(value.end)))
            isKeyed.append(isInner)
          }
          offset = Int(value.end)
        }
      }
    }
  }

  private mutating func sortEntries(from start: Int, to end: Int) {
    let sorted: [UInt8]? = withReader { reader in
      var entries: [(key: [UInt8], start: Int, end: Int)] = []
      var offset = start
      while offset < end {
        guard let key = reader.key(at: offset, before: end) else { return nil }
        let value = reader.value(at: key.end, before: end)
        guard value.tag != Tag.invalid else { return nil }
        entries.append((reader.array(of: key.end - key.start, at: key.start), offset, Int(value.end)))
        offset = Int(value.end)
      }
      entries.sort { $0.key.lexicographicallyPrecedes($1.key) }
      return entries.flatMap { reader.array(of: $0.end - $0.start, at: $0.start) as [UInt8] }
    }
    if let sorted { overwrite(at: start, with: sorted) }
  }
}
