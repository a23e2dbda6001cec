/// The other end has closed where a message was expected.
struct DemoClosed: Error, CustomStringConvertible {
  let what: String

  var description: String { "\(what): the other end has closed instead" }
}
