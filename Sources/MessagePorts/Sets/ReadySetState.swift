import CSupport
import SharedRing

/// What a set's lock guards: its members, those that may have something, and who waits for that. A value.
struct ReadySetState: Sendable {
  struct Entry: Sendable {
    let member: SetMember
    let source: PortSet.Member
  }
  /// By place; `nil`: nobody's.
  private var entries: [Entry?] = []
  private var freePlaces: [Int] = []
  private var places: [ObjectIdentifier: Int] = [:]
  /// The places at which there may be something.
  private(set) var listed = ReadyQueue()
  /// Threads that wait until something is listed.
  var threads = SleepingThreads()
  /// Tasks that do. They are told whether they are to look; `false`: they were cancelled.
  var tasks: [UInt64: Resumption<Bool>] = [:]
  /// Those that listen for members, or have.
  var loops: [EventLoop] = []
  /// Is readable as long as something is listed.
  private(set) var descriptor: CInt?
  /// The descriptor was signalled, and not drained since; never without one.
  private var isSignalled = false
  /// How often a listed member was looked at.
  private(set) var lookCount = 0

  /// Whom to wake once the lock is released.
  struct Woken: Sendable {
    var threads: PrivateWord?
    var tasks: [UInt64: Resumption<Bool>] = [:]

    func perform() {
      threads?.ring()
      for task in tasks.values { task.resume(true) }
    }
  }

  var count: Int { places.count }

  func holds(_ member: SetMember) -> Bool {
    member.place < entries.count && entries[member.place]?.member === member
  }

  func member(_ id: ObjectIdentifier) -> SetMember? { places[id].flatMap { entries[$0]?.member } }

  /// `nil`: it is there already.
  mutating func insert(_ source: PortSet.Member, of set: ReadySet) -> SetMember? {
    guard places[source.id] == nil else { return nil }
    if freePlaces.isEmpty {
      freePlaces.append(entries.count)
      entries.append(nil)
    }
    let member = SetMember(set, place: freePlaces.removeLast())
    places[source.id] = member.place
    entries[member.place] = Entry(member: member, source: source)
    return member
  }

  /// Returns what is to be released without the lock.
  mutating func remove(_ member: SetMember) -> Entry? {
    guard holds(member), let entry = entries[member.place].take() else { return nil }
    places[entry.source.id] = nil
    listed.remove(member.place)
    freePlaces.append(member.place)
    settle()
    return entry
  }

  /// Gives up all. Returns what is to be released without the lock.
  mutating func removeAll() -> [Entry] {
    defer { (entries, freePlaces, places, listed) = ([], [], [:], ReadyQueue()) }
    return entries.compactMap { $0 }
  }

  // MARK: Listing

  /// There may be something at `member`.
  mutating func list(_ member: SetMember) -> Woken {
    guard holds(member), listed.append(member.place) else { return Woken() }
    signal()
    defer { tasks = [:] }
    return Woken(threads: threads.ring(), tasks: tasks)
  }

  /// The next one that is to be looked at.
  mutating func takeFirst() -> Entry? {
    guard let place = listed.popFirst() else { return nil }
    lookCount &+= 1
    return entries[place]
  }

  // MARK: The descriptor

  /// Returns the one that there is, if another thread was faster.
  mutating func adopt(_ new: CInt) -> CInt {
    if let descriptor { return descriptor }
    descriptor = new
    if !listed.isEmpty { signal() }
    return new
  }

  // The calls cannot block, and are made with the lock so that they come in the order of what they are about.

  private mutating func signal() {
    guard let descriptor, !isSignalled else { return }
    isSignalled = true
    _ = csupport_eventfd_signal(descriptor)
  }

  /// Nothing may be listed any more.
  mutating func settle() {
    guard listed.isEmpty, isSignalled, let descriptor else { return }
    isSignalled = false
    _ = csupport_eventfd_drain(descriptor)
  }
}
