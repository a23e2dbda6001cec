import MessagePorts
import MessagePortsMacros

@MessageValue
struct Box<Content: MessageValue & Equatable>: Equatable {
  var content: Content
  var maybe: Content?
}

@MessageValue
struct Pair<First: Equatable, Second>: Equatable where Second: Equatable {
  var first: First
  var second: [Second?]
}

@MessageValue
struct Tagged<Tag, Content: Codable & Equatable>: Codable, Equatable { var content: Content }

/// Only its key has to be a message value.
@MessageValue
struct Reference<Target: Identifiable>: Equatable where Target.ID: Codable { var id: Target.ID }

@MessageValue
enum Either<Left: Equatable, Right: Equatable>: Equatable {
  case left(Left)
  case right(Right)
}

@MessageValue
indirect enum Tree<Element: Equatable>: Equatable {
  case leaf
  case node(Tree<Element>, Element, Tree<Element>)
}

struct Outer<Element: Equatable> {
  @MessageValue
  struct Inner: Equatable { var element: Element }
}

/// Is no message value.
struct Target: Identifiable { let id: Int }
