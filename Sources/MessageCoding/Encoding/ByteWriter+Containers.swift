// Going through the containers of a message that is complete.
extension ByteWriter {
  /// Puts the entries of each keyed container in the order of the bytes of their keys.
  ///
  /// Entries change places and keep their sizes, so that containers can be sorted from the outside in, in place.
  mutating func sortKeys() {
    forEachKeyedContainer { writer, entries in writer.sortEntries(entries) }
  }

  /// Fails if a key is longer than the limit. Those whose length takes one byte are not checked when they are written.
  mutating func checkShortKeys() {
    if hasFailed { return }
    forEachKeyedContainer { writer, entries in
      let limit = writer.keyLimit
      let isTooLong = writer.withReader { reader in
        var offset = entries.lowerBound
        while offset < entries.upperBound, let key = reader.key(at: offset, before: entries.upperBound) {
          if key.end - key.start > limit { return true }
          offset = max(key.end, Int(reader.value(at: key.end, before: entries.upperBound).end))
        }
        return false
      }
      if isTooLong { writer.failForLongKey() }
    }
  }

  /// Calls `body` with the place of the entries of each keyed container, from the outside in.
  private mutating func forEachKeyedContainer(_ body: (inout ByteWriter, Range<Int>) -> Void) {
    var containers = [1..<count]
    // At the top level there is one value, like the item of an unkeyed container without a count.
    var isKeyed = [false]
    while let container = containers.popLast(), let keyed = isKeyed.popLast() {
      if keyed { body(&self, container) }
      withReader { reader in
        var offset = container.lowerBound
        while offset < container.upperBound {
          if keyed {
            guard let key = reader.key(at: offset, before: container.upperBound) else { return }
            offset = key.end
          } else if let run = reader.run(at: offset, before: container.upperBound) {
            offset = run.end
            continue
          }
          let value = reader.value(at: offset, before: container.upperBound)
          guard value.tag != Tag.invalid else { return }
          if value.tag == Tag.keyed || value.tag == Tag.unkeyed {
            let isInner = value.tag == Tag.keyed
            containers.append(Int(value.start) + (isInner ? 0 : 4)..<Int(value.end))
            isKeyed.append(isInner)
          }
          offset = Int(value.end)
        }
      }
    }
  }

  private mutating func sortEntries(_ container: Range<Int>) {
    let sorted: [UInt8]? = withReader { reader in
      var entries: [(key: [UInt8], start: Int, end: Int)] = []
      var offset = container.lowerBound
      while offset < container.upperBound {
        guard let key = reader.key(at: offset, before: container.upperBound) else { return nil }
        let value = reader.value(at: key.end, before: container.upperBound)
        guard value.tag != Tag.invalid else { return nil }
        entries.append((reader.array(of: key.end - key.start, at: key.start), offset, Int(value.end)))
        offset = Int(value.end)
      }
      entries.sort { $0.key.lexicographicallyPrecedes($1.key) }
      return entries.flatMap { reader.array(of: $0.end - $0.start, at: $0.start) as [UInt8] }
    }
    if let sorted { overwrite(at: container.lowerBound, with: sorted) }
  }
}
