/// Something other than what was expected has come.
struct DemoUnexpected: Error, CustomStringConvertible {
  let what: String

  var description: String { "\(what): something else has come" }
}
