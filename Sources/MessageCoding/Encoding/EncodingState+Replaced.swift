// A key that a value encodes again: the last one counts, as with Foundation's coders.
//
// A class does so that calls `super.encode(to:)` and then encodes a key of its superclass. Both ask the encoder for a
// container, so only values that ask twice are searched for such keys, when they are finished.

extension EncodingState {
  /// Removes entries whose keys come again, from the containers that were asked for more than once. The lengths of the
  /// parts must have been written.
  func removeReplacedEntries(_ first: Int) {
    for index in first..<frames.count where frames[index].kind == .rekeyed {
      let start = Int(frames[index].start) + Layout.keyedHeaderBytes
      let end = frames[index].isOpen ? bytes.count : Int(frames[index].end)
      let replaced = bytes.withReader { $0.replacedEntries(from: start, to: end) }
      frames[index].kind = .keyed
      if replaced.isEmpty { continue }
      bytes.remove(replaced)
      remove(replaced, from: first)
      writeLengths(first)
    }
  }

  /// Moves the frames from `first` on as the bytes were moved. Nothing can be written into those of removed values.
  private func remove(_ ranges: [Range<Int>], from first: Int) {
    let removed = RemovedBytes(ranges)
    for index in first..<frames.count {
      if removed.contain(Int(frames[index].start)) { frames[index].kind = .single }
      frames[index].start = removed.map(frames[index].start)
      if !frames[index].isOpen { frames[index].end = removed.map(frames[index].end) }
      if case .entry(let offset) = frames[index].key { frames[index].key = .entry(removed.map(offset)) }
    }
  }
}

/// Where offsets go when bytes are removed.
private struct RemovedBytes {
  private let ranges: [Range<Int>]
  /// How many bytes are removed before the end of each range.
  private var totals: [Int] = []

  init(_ ranges: [Range<Int>]) {
    self.ranges = ranges
    var total = 0
    for range in ranges {
      total += range.count
      totals.append(total)
    }
  }

  func contain(_ offset: Int) -> Bool {
    let index = rangesEnding(atOrBefore: offset)
    return index < ranges.count && ranges[index].contains(offset)
  }

  func map(_ offset: UInt32) -> UInt32 {
    let index = rangesEnding(atOrBefore: Int(offset))
    let before = index == 0 ? 0 : totals[index - 1]
    let inside = index < ranges.count ? max(0, Int(offset) - ranges[index].lowerBound) : 0
    return offset - UInt32(before + inside)
  }

  private func rangesEnding(atOrBefore offset: Int) -> Int {
    var (low, high) = (0, ranges.count)
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound <= offset { low = middle + 1 } else { high = middle }
    }
    return low
  }
}

extension ByteReader {
  /// The entries of a keyed container whose keys come again behind them, in order.
  fileprivate func replacedEntries(from start: Int, to end: Int) -> [Range<Int>] {
    var entries: [Range<Int>] = []
    var offset = start
    while offset < end {
      guard let key = key(at: offset, before: end) else { return [] }
      let value = value(at: key.end, before: end)
      guard value.tag != Tag.invalid else { return [] }
      entries.append(offset..<Int(value.end))
      offset = Int(value.end)
    }
    var seen = SeenKeys(self)
    var replaced: [Range<Int>] = []
    for entry in entries.reversed() {
      guard let key = key(at: entry.lowerBound, before: end) else { continue }
      let isLast = seen.insert(UInt32(truncatingIfNeeded: entry.lowerBound), from: key.start, to: key.end)
      if !isLast { replaced.append(entry) }
    }
    return replaced.reversed()
  }
}
