import MessageCoding

struct Place: MessageValue, Equatable {
  var x: Double
  var y: Double
  var label: String

  func write(to writer: inout ValueWriter) {
    writer.writeEntries { entries in
      entries.write(x, forKey: "x")
      entries.write(y, forKey: "y")
      entries.write(label, forKey: "label")
    }
  }

  init(x: Double, y: Double, label: String) { (self.x, self.y, self.label) = (x, y, label) }

  init(from reader: inout ValueReader) throws {
    self = try reader.readEntries { entries in
      Place(
        x: try entries.read(forKey: "x"), y: try entries.read(forKey: "y"), label: try entries.read(forKey: "label"))
    }
  }
}

enum Grade: UInt8, MessageValue { case low = 1, middle = 100, high = 200 }

enum Suit: String, MessageValue, CodingKeyRepresentable { case hearts, spades }

/// What a derived conformance makes of an enum with values.
enum Figure: MessageValue, Equatable {
  case nothing
  case circle(radius: Double)
  case polygon([Int16], name: String?)

  func write(to writer: inout ValueWriter) {
    writer.writeEntries { entries in
      switch self {
      case .nothing: entries.writeEntries(forKey: "nothing") { _ in }
      case .circle(let radius): entries.writeEntries(forKey: "circle") { $0.write(radius, forKey: "radius") }
      case .polygon(let corners, let name):
        entries.writeEntries(forKey: "polygon") { entries in
          entries.write(corners, forKey: "_0")
          entries.write(name, forKey: "name")
        }
      }
    }
  }

  init(from reader: inout ValueReader) throws {
    self = try reader.readEntries { entries in
      switch try entries.findOnly(of: ["nothing", "circle", "polygon"], for: Figure.self) {
      case 0: try entries.readEntries(forKey: "nothing") { _ in .nothing }
      case 1: try entries.readEntries(forKey: "circle") { .circle(radius: try $0.read(forKey: "radius")) }
      default:
        try entries.readEntries(forKey: "polygon") {
          .polygon(try $0.read(forKey: "_0"), name: try $0.read(forKey: "name"))
        }
      }
    }
  }
}

/// A list, as deep as it is long.
indirect enum Nest: MessageValue, Equatable {
  case end
  case link(Int, Nest)

  enum CodingKeys: CodingKey { case value, next }

  init(depth: Int) { self = (0..<depth).reduce(.end) { .link($1, $0) } }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    guard case .link(let value, let next) = self else { return }
    try container.encode(value, forKey: .value)
    try container.encode(next, forKey: .next)
  }

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    guard let value = try container.decodeIfPresent(Int.self, forKey: .value) else {
      self = .end
      return
    }
    self = .link(value, try container.decode(Nest.self, forKey: .next))
  }

  func write(to writer: inout ValueWriter) {
    writer.writeEntries { entries in
      guard case .link(let value, let next) = self else { return }
      entries.write(value, forKey: "value")
      entries.write(next, forKey: "next")
    }
  }

  init(from reader: inout ValueReader) throws {
    self = try reader.readEntries { entries in
      guard let value: Int = try entries.read(forKey: "value") else { return .end }
      return .link(value, try entries.read(forKey: "next"))
    }
  }
}

/// Of everything, something.
struct Whole: MessageValue, Equatable {
  var id: Int64
  var name: String
  var ratio: Float
  var isActive: Bool
  var place: Place
  var small: Int8
  var huge: UInt128
  var maybe: Int?
  var note: String?
  var twice: Int??
  var numbers: [Int]
  var bytes: [UInt8]
  var words: [String: [String]]
  var byNumber: [Int: Bool]
  var bySuit: [Suit: Grade]
  var byGrade: [Grade: String]
  var set: Set<UInt16>
  var gaps: [Double?]
  var figure: Figure
  var aKeyThatIsLongEnoughToBeComparedInSeveralSteps: UInt

  func write(to writer: inout ValueWriter) {
    writer.writeEntries { entries in
      entries.write(id, forKey: "id")
      entries.write(name, forKey: "name")
      entries.write(ratio, forKey: "ratio")
      entries.write(isActive, forKey: "isActive")
      entries.write(place, forKey: "place")
      entries.write(small, forKey: "small")
      entries.write(huge, forKey: "huge")
      entries.write(maybe, forKey: "maybe")
      entries.write(note, forKey: "note")
      entries.write(twice, forKey: "twice")
      entries.write(numbers, forKey: "numbers")
      entries.write(bytes, forKey: "bytes")
      entries.write(words, forKey: "words")
      entries.write(byNumber, forKey: "byNumber")
      entries.write(bySuit, forKey: "bySuit")
      entries.write(byGrade, forKey: "byGrade")
      entries.write(set, forKey: "set")
      entries.write(gaps, forKey: "gaps")
      entries.write(figure, forKey: "figure")
      entries.write(
        aKeyThatIsLongEnoughToBeComparedInSeveralSteps, forKey: "aKeyThatIsLongEnoughToBeComparedInSeveralSteps")
    }
  }

  init(from reader: inout ValueReader) throws {
    self = try reader.readEntries { entries in
      var whole = Whole.example
      whole.id = try entries.read(forKey: "id")
      whole.name = try entries.read(forKey: "name")
      whole.ratio = try entries.read(forKey: "ratio")
      whole.isActive = try entries.read(forKey: "isActive")
      whole.place = try entries.read(forKey: "place")
      whole.small = try entries.read(forKey: "small")
      whole.huge = try entries.read(forKey: "huge")
      whole.maybe = try entries.read(forKey: "maybe")
      whole.note = try entries.read(forKey: "note")
      whole.twice = try entries.read(forKey: "twice")
      whole.numbers = try entries.read(forKey: "numbers")
      whole.bytes = try entries.read(forKey: "bytes")
      whole.words = try entries.read(forKey: "words")
      whole.byNumber = try entries.read(forKey: "byNumber")
      whole.bySuit = try entries.read(forKey: "bySuit")
      whole.byGrade = try entries.read(forKey: "byGrade")
      whole.set = try entries.read(forKey: "set")
      whole.gaps = try entries.read(forKey: "gaps")
      whole.figure = try entries.read(forKey: "figure")
      whole.aKeyThatIsLongEnoughToBeComparedInSeveralSteps = try entries.read(
        forKey: "aKeyThatIsLongEnoughToBeComparedInSeveralSteps")
      return whole
    }
  }

  private init(example: Void) {
    (id, name, ratio, isActive) = (123_456_789_012, "kettle", 0.5, true)
    place = Place(x: 1.5, y: -2, label: String(repeating: "ż", count: 50))
    (small, huge, maybe, note, twice) = (-5, .max, 7, nil, .some(3))
    (numbers, bytes, words, byNumber) = ([1, -2, 1 << 40], [0, 255], ["a": ["b"], "": []], [-1: true, 5: false])
    (bySuit, byGrade, set, gaps) = ([.hearts: .low, .spades: .high], [.middle: "m"], [1, 2, 60_000], [0.5, nil])
    figure = .polygon([1, -2], name: "p")
    aKeyThatIsLongEnoughToBeComparedInSeveralSteps = .max
  }

  static let example = Whole(example: ())
}
