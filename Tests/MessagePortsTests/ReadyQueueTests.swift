import Testing

@testable import MessagePorts

@Suite("The list that a set's ports put themselves on")
struct ReadyQueueTests {
  @Test("14.3 It has each place once, in the order in which they came, whatever is taken out")
  func order() {
    var queue = ReadyQueue()
    var model: [Int] = []
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<20_000 {
      let place = Int.random(in: 0..<12, using: &generator)
      switch Int.random(in: 0..<4, using: &generator) {
      case 0, 1:
        #expect(queue.append(place) == !model.contains(place))
        if !model.contains(place) { model.append(place) }
      case 2:
        queue.remove(place)
        model.removeAll { $0 == place }
      default: #expect(queue.popFirst() == (model.isEmpty ? nil : model.removeFirst()))
      }
      #expect(queue.count == model.count && queue.isEmpty == model.isEmpty)
      #expect(queue.contains(place) == model.contains(place))
    }
    while !model.isEmpty { #expect(queue.popFirst() == model.removeFirst()) }
    #expect(queue.popFirst() == nil)
  }
}
