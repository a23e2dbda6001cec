// swift-tools-version: 6.2
import PackageDescription

/// As in the main package: warnings are errors, and each unsafe use is marked as such in the source.
let settings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .strictMemorySafety(),
]

let ports: Target.Dependency = .product(name: "MessagePorts", package: "swift-message-ports")

/// A package of its own: whoever uses the library has nothing to do with what is only for an example.
let package = Package(
  name: "examples",
  dependencies: [
    .package(name: "swift-message-ports", path: "..", traits: []),
    .package(url: "https://github.com/apple/swift-nio", from: "2.90.0"),
  ],
  targets: [
    .target(name: "ExampleWorker", dependencies: [ports], swiftSettings: settings),
    .executableTarget(name: "PollLoop", dependencies: ["ExampleWorker", ports], swiftSettings: settings),
    .executableTarget(
      name: "NIOLoop",
      dependencies: [
        "ExampleWorker", ports, .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6]
)
