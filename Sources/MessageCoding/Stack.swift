/// A stack of plain values, for the records that coders keep about values that are not finished.
///
/// An `Array` in a class would check for other references to it at each write; this only checks the index.
///
/// `@safe`: the memory is owned here and the pointer never leaves; each access is checked against the count.
@safe struct Stack<Element: BitwiseCopyable>: ~Copyable {
  /// What is kept when the stack is emptied.
  private static var keptCapacity: Int { 1024 }

  private var base: UnsafeMutablePointer<Element>
  private var capacity: Int
  private(set) var count = 0

  init() {
    capacity = 16
    unsafe base = .allocate(capacity: capacity)
  }

  deinit { unsafe base.deallocate() }

  @inline(__always)
  mutating func push(_ element: Element) {
    if count == capacity { reallocate(capacity * 2) }
    unsafe (base + count).initialize(to: element)
    count &+= 1
  }

  /// Removes elements until `newCount` are left; does nothing if there are fewer.
  @inline(__always)
  mutating func truncate(to newCount: Int) {
    if newCount < count { count = newCount }
  }

  /// Removes all elements, and most of the memory of a large stack.
  @inline(__always)
  mutating func removeAll() {
    count = 0
    if capacity > Self.keptCapacity { reallocate(Self.keptCapacity) }
  }

  @inline(__always)
  subscript(index: Int) -> Element {
    get {
      precondition(index >= 0 && index < count, "No record has this index.")
      return unsafe base[index]
    }
    _modify {
      precondition(index >= 0 && index < count, "No record has this index.")
      yield unsafe &base[index]
    }
  }

  @inline(never)
  private mutating func reallocate(_ newCapacity: Int) {
    let memory = UnsafeMutablePointer<Element>.allocate(capacity: newCapacity)
    unsafe memory.moveInitialize(from: base, count: count)
    unsafe base.deallocate()
    unsafe base = memory
    capacity = newCapacity
  }
}
