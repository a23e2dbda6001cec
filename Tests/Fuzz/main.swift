// The fuzzer of FUZZ_TARGET; the arguments are libFuzzer's. With FUZZ_SEEDS, it writes seeds into that folder instead.
// Only `scripts/fuzz.sh` builds it.

import Foundation

/// libFuzzer's main function, which is not called `main` here, because SwiftPM has one already.
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
  _ argc: UnsafeMutablePointer<CInt>,
  _ argv: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
  _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

private enum Chosen {
  static let target = ProcessInfo.processInfo.environment["FUZZ_TARGET"].flatMap(FuzzTarget.init)
}

guard let target = Chosen.target else {
  print(FuzzTarget.allCases.map(\.rawValue).joined(separator: " "))
  exit(64)
}

if let folder = ProcessInfo.processInfo.environment["FUZZ_SEEDS"] {
  for (number, seed) in target.seeds.enumerated() {
    try Data(seed).write(to: URL(fileURLWithPath: folder).appendingPathComponent("seed-\(number)"))
  }
  exit(0)
}

var argc = CommandLine.argc
var argv = unsafe CommandLine.unsafeArgv
let code = unsafe runFuzzer(&argc, &argv) { bytes, count in
  unsafe Chosen.target!.run([UInt8](UnsafeBufferPointer(start: bytes, count: count)))
  return 0
}
exit(code)
