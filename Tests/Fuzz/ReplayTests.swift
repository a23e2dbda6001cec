import Foundation
import Testing

/// The inputs that the fuzzer has found worth keeping, without the fuzzer.
@Suite("Fuzz replay", .serialized, .timeLimit(.minutes(3)))
struct ReplayTests {
  private static let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent()

  private func inputs(_ folder: String, _ target: FuzzTarget) throws -> [URL] {
    let folder = Self.directory.appendingPathComponent("\(folder)/\(target.rawValue)")
    guard FileManager.default.fileExists(atPath: folder.path) else { return [] }
    return try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
  }

  @Test("What the fuzzer has reached is reached without harm", arguments: FuzzTarget.allCases)
  func corpus(_ target: FuzzTarget) throws {
    let inputs = try inputs("Corpus", target)
    #expect(inputs.count >= 5)
    for input in inputs { target.run(Array(try Data(contentsOf: input))) }
  }

  @Test("What once did harm does none any more", arguments: FuzzTarget.allCases)
  func regressions(_ target: FuzzTarget) throws {
    for input in try inputs("Regressions", target) { target.run(Array(try Data(contentsOf: input))) }
  }

  @Test("Seeds do no harm, nor do seeds with any one byte changed", arguments: FuzzTarget.allCases)
  func seeds(_ target: FuzzTarget) {
    for seed in target.seeds {
      target.run(seed)
      for index in seed.indices.prefix(200) {
        var changed = seed
        changed[index] ^= UInt8(1 << (index % 8))
        target.run(changed)
      }
    }
  }
}
