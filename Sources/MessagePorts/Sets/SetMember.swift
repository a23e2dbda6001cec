/// A port's place in a set, as the port's lane knows it.
final class SetMember: Sendable {
  let set: ReadySet
  let place: Int

  init(_ set: ReadySet, place: Int) { (self.set, self.place) = (set, place) }
}

/// Whom a receiving end tells that there is something, besides those who take it. A value; the lane's lock guards it.
struct AwaitedPlace: Sendable {
  let member: SetMember
  /// Nothing was there when the set last looked, and it has not been told since.
  var isArmed = false
}
