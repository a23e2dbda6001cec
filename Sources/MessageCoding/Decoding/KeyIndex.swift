/// Where the keys of a container are: a hash table of their bytes.
///
/// The keys themselves stay in the message. The hash is seeded, so a peer cannot choose keys that collide.
struct KeyIndex {
  /// A hash in the upper half, the offset of an entry in the lower. Zero is free: the version is at offset zero.
  private var slots = [UInt64](repeating: 0, count: 8)
  private var count = 0

  /// Adds the entry at `offset`, which has this key; returns false if there is one already.
  mutating func insert(_ offset: UInt32, _ key: KeyBytes, in reader: ByteReader) -> Bool {
    let hash = key.hash
    let slot = slot(of: key, hash, in: reader)
    guard slots[slot] == 0 else { return false }
    slots[slot] = UInt64(hash) << 32 | UInt64(offset)
    count += 1
    if count * 4 > slots.count * 3 { grow() }
    return true
  }

  /// The offset of the entry with a key, or nil.
  func offset(of key: KeyBytes, in reader: ByteReader) -> UInt32? {
    let entry = slots[slot(of: key, key.hash, in: reader)]
    return entry == 0 ? nil : UInt32(truncatingIfNeeded: entry)
  }

  /// The slot of the entry with a key, or the free one where it would be.
  private func slot(of key: KeyBytes, _ hash: UInt32, in reader: ByteReader) -> Int {
    var slot = Int(hash) & (slots.count - 1)
    while slots[slot] != 0, !isEntry(slots[slot], of: key, hash, in: reader) { slot = (slot + 1) & (slots.count - 1) }
    return slot
  }

  private func isEntry(_ entry: UInt64, of key: KeyBytes, _ hash: UInt32, in reader: ByteReader) -> Bool {
    guard UInt32(truncatingIfNeeded: entry >> 32) == hash,
      let other = reader.key(at: Int(UInt32(truncatingIfNeeded: entry)), before: reader.count)
    else { return false }
    return other.end - other.start == key.count && reader.isEqual(at: other.start, to: key)
  }

  private mutating func grow() {
    let old = slots
    slots = [UInt64](repeating: 0, count: old.count * 2)
    for entry in old where entry != 0 {
      var slot = Int(entry >> 32) & (slots.count - 1)
      while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
      slots[slot] = entry
    }
  }
}
