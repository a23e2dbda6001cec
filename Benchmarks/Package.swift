// swift-tools-version: 6.2
import PackageDescription

/// As in the main package: warnings are errors, and each unsafe use is marked as such in the source.
let settings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .strictMemorySafety(),
]

let package = Package(
  name: "benchmarks",
  dependencies: [
    .package(name: "swift-message-ports", path: ".."),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    .package(url: "https://github.com/ordo-one/TextTable", from: "0.0.2"),
  ],
  targets: [
    // Pinning, the time stamp counter and a bounced cache line: what is done best without a runtime around it.
    .target(name: "CBench"),
    .target(
      name: "BenchKit",
      dependencies: [
        "CBench",
        .product(name: "MessagePorts", package: "swift-message-ports"),
        .product(name: "Histogram", package: "hdrhistogram-swift"),
        .product(name: "TextTable", package: "TextTable"),
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "bench",
      dependencies: ["BenchKit", .product(name: "ArgumentParser", package: "swift-argument-parser")],
      swiftSettings: settings),
    // Small loops and nothing else, for check-instructions.sh to count.
    .executableTarget(
      name: "instructions", dependencies: [.product(name: "MessagePorts", package: "swift-message-ports")],
      swiftSettings: settings),
    .executableTarget(
      name: "value-instructions", dependencies: [.product(name: "MessagePorts", package: "swift-message-ports")],
      swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .gnu11
)
