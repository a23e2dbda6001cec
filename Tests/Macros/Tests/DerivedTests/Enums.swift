import MessagePorts
import MessagePortsMacros

@MessageValue
enum Plain: Equatable, CaseIterable { case first, second, `default` }

@MessageValue
enum Single: Equatable { case only }

@MessageValue
enum Figure: Codable, Equatable {
  case nothing
  case circle(radius: Double)
  case polygon([Int16], name: String?), line(Place, Place)
  case label(_ text: String, at: Place?, in: Int)
  case empty(Nothing)
  indirect case group(Figure, Figure)
}

@MessageValue
enum Wish: Equatable {
  case circle(radius: Double, filled: Bool = false)
  case square(side: Int, Int = 7, name: String? = nil)
  case unit(scale: Int = 1)

  enum CodingKeys: String, CodingKey { case unit, circle = "round", square }
  enum CircleCodingKeys: String, CodingKey { case filled = "full", radius = "r" }
  enum SquareCodingKeys: CodingKey { case name, side }
  enum UnitCodingKeys: CodingKey {}
}

@MessageValue
enum Suit: String, Equatable { case hearts, spades = "♠" }

@MessageValue
enum Grade: UInt8, Equatable { case low = 1, high = 200 }

typealias Digits = Int

@MessageValue
enum Aliased: Digits, Equatable { case one = 1, two }

/// `Character` is not `Codable`: the compiler takes the cases.
@MessageValue
enum Letter: Character, Equatable { case a = "a", b = "b" }
