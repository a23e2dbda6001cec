/// Who holds a port: a worker in one of its lives.
struct Holder: Equatable {
  let worker: Int
  let generation: Int

  init(worker: Int, generation: Int) { (self.worker, self.generation) = (worker, generation) }
  /// `nil`: nobody does.
  init?(word: Int) {
    guard word != 0 else { return nil }
    self.init(worker: word & 0xFFFF - 1, generation: word >> 16)
  }

  var word: Int { generation << 16 | (worker + 1) }
}
