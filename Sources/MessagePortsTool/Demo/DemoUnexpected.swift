/// Something else has come than what was expected.
struct DemoUnexpected: Error, CustomStringConvertible {
  let what: String

  var description: String { "\(what): something else has come" }
}
