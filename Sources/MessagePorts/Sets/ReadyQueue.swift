/// The places of a set at which something is to be looked at, in the order in which they came. Each is in it once.
///
/// A list through an array: appending, taking and removing take O(1).
struct ReadyQueue: Sendable {
  private struct Link: Sendable {
    var previous: Int?
    var next: Int?
  }
  /// By place; `nil`: it is not in the queue.
  private var links: [Link?] = []
  private var first: Int?
  private var last: Int?
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }

  func contains(_ place: Int) -> Bool { place < links.count && links[place] != nil }

  /// `false`: it is there already, and keeps its turn.
  mutating func append(_ place: Int) -> Bool {
    if contains(place) { return false }
    while links.count <= place { links.append(nil) }
    links[place] = Link(previous: last)
    if let last { links[last]?.next = place } else { first = place }
    last = place
    count += 1
    return true
  }

  mutating func popFirst() -> Int? {
    guard let place = first else { return nil }
    remove(place)
    return place
  }

  mutating func remove(_ place: Int) {
    guard contains(place), let link = links[place].take() else { return }
    if let previous = link.previous { links[previous]?.next = link.next } else { first = link.next }
    if let next = link.next { links[next]?.previous = link.previous } else { last = link.previous }
    count -= 1
  }
}
