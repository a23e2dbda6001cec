// swift-tools-version: 6.2
import CompilerPluginSupport
import PackageDescription

/// Every Swift target: warnings are errors, and each unsafe use is marked as such in the source.
let settings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .strictMemorySafety(),
]

let package = Package(
  name: "swift-message-ports",
  products: [
    .library(name: "MessagePorts", targets: ["MessagePorts"]),
    // JSON and property-list coders, `Data` overloads: the only library product that needs Foundation.
    .library(name: "MessagePortsFoundation", targets: ["MessagePortsFoundation"]),
    // The macro `@MessageValue`, which needs the trait of the same name.
    .library(name: "MessagePortsMacros", targets: ["MessagePortsMacros"]),
    .executable(name: "messageports", targets: ["MessagePortsTool"]),
  ],
  traits: [
    .trait(name: "Tool", description: "Builds the tool `messageports`, which needs swift-argument-parser."),
    .trait(name: "Macros", description: "Builds the macro `@MessageValue`, which needs swift-syntax."),
    .default(enabledTraits: ["Tool"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    // For the tool alone: a package that depends on the libraries with `traits: []` does not even fetch it.
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    // For the macro alone: it is not fetched without the trait `Macros`.
    .package(url: "https://github.com/swiftlang/swift-syntax", from: "603.0.1"),
  ],
  targets: [
    .systemLibrary(name: "CLiburing", pkgConfig: "liburing", providers: [.apt(["liburing-dev"])]),
    .target(name: "CSupport", dependencies: ["CLiburing"], path: "CSupport"),
    .target(name: "SharedRing", dependencies: ["CSupport"], swiftSettings: settings),
    .target(name: "MessageCoding", swiftSettings: settings),
    .target(
      name: "MessagePorts",
      dependencies: [
        "CSupport", "SharedRing", "MessageCoding",
        .product(name: "DequeModule", package: "swift-collections"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),
    .target(
      name: "MessagePortsFoundation", dependencies: ["MessagePorts", "MessageCoding"], swiftSettings: settings),
    .target(
      name: "MessagePortsMacros",
      dependencies: ["MessagePorts", .target(name: "MessagePortsMacrosPlugin", condition: .when(traits: ["Macros"]))],
      swiftSettings: settings),
    // Runs in the compiler. Without the trait, it is a program that does nothing.
    .macro(
      name: "MessagePortsMacrosPlugin",
      dependencies: [
        .product(name: "SwiftCompilerPlugin", package: "swift-syntax", condition: .when(traits: ["Macros"])),
        .product(name: "SwiftDiagnostics", package: "swift-syntax", condition: .when(traits: ["Macros"])),
        .product(name: "SwiftSyntax", package: "swift-syntax", condition: .when(traits: ["Macros"])),
        .product(name: "SwiftSyntaxBuilder", package: "swift-syntax", condition: .when(traits: ["Macros"])),
        .product(name: "SwiftSyntaxMacros", package: "swift-syntax", condition: .when(traits: ["Macros"])),
      ],
      swiftSettings: settings),
    .executableTarget(
      name: "MessagePortsTool",
      dependencies: [
        "CSupport", "MessagePorts",
        .product(name: "ArgumentParser", package: "swift-argument-parser", condition: .when(traits: ["Tool"])),
      ],
      swiftSettings: settings),

    .target(name: "CTestSupport", path: "Tests/CTestSupport"),
    .target(
      name: "TestSupport", dependencies: ["CTestSupport", "CSupport", "SharedRing", "MessagePorts"],
      path: "Tests/TestSupport",
      swiftSettings: settings),
    // The far end of most tests: another process, playing one role per function.
    .executableTarget(
      name: "TestPeer", dependencies: ["CTestSupport", "CSupport", "SharedRing", "MessagePorts", "TestSupport"],
      path: "Tests/TestPeer",
      swiftSettings: settings),
    // A program that attacks users of the library, and what is attacked: see Tests/Attack/README.md.
    .executableTarget(name: "Attacker", path: "Tests/Attacker"),
    .executableTarget(
      name: "AttackTrials", dependencies: ["CTestSupport", "CSupport", "SharedRing", "MessagePorts", "TestSupport"],
      path: "Tests/Attack", exclude: ["README.md"], swiftSettings: settings),
    // Processes that post, move, close and die at random; every message is checked. See `make soak`.
    .executableTarget(
      name: "Torture",
      dependencies: [
        "CSupport", "MessagePorts", "TestSupport",
        .product(name: "ArgumentParser", package: "swift-argument-parser", condition: .when(traits: ["Tool"])),
      ],
      path: "Tests/Torture", swiftSettings: settings),
    // Kills processes at every step of the library; see Tests/CrashTests/README.md.
    .executableTarget(
      name: "CrashTrials", dependencies: ["CSupport", "SharedRing", "MessagePorts", "TestSupport"],
      path: "Tests/CrashTests",
      exclude: ["README.md"], swiftSettings: settings),
    // The example of the README, word for word; a test compares and runs it.
    .executableTarget(
      name: "ReadmeExample", dependencies: ["MessagePorts"], path: "Tests/ReadmeExample", swiftSettings: settings),
    .testTarget(
      name: "CSupportTests", dependencies: ["CSupport", "TestSupport", "CTestSupport"], swiftSettings: settings),
    .testTarget(
      name: "SharedRingTests", dependencies: ["SharedRing", "CSupport", "TestSupport"], swiftSettings: settings),
    .testTarget(
      name: "MessageCodingTests", dependencies: ["MessageCoding", "MessagePortsFoundation"], swiftSettings: settings),
    .testTarget(
      name: "MessagePortsTests",
      dependencies: [
        "MessagePorts", "MessagePortsFoundation", "CSupport", "TestSupport", "CTestSupport", "TestPeer",
        "ReadmeExample", "AttackTrials", "Attacker", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: settings),
    .testTarget(
      name: "ToolTests", dependencies: ["MessagePortsTool", "CSupport", "MessagePorts", "SharedRing"],
      swiftSettings: settings),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .gnu11
)

// What is fuzzed is what a test replays: the same files make a test bundle, or, for `scripts/fuzz.sh`, a fuzzer.
let fuzzing: (dependencies: [Target.Dependency], path: String) = (
  ["CSupport", "SharedRing", "MessageCoding", "MessagePorts"], "Tests/Fuzz"
)
package.targets.append(
  Context.environment["MESSAGEPORTS_FUZZER"] == nil
    ? .testTarget(
      name: "FuzzTests", dependencies: fuzzing.dependencies, path: fuzzing.path,
      exclude: ["main.swift", "README.md", "Corpus", "Regressions"], swiftSettings: settings)
    : .executableTarget(
      name: "Fuzzer", dependencies: fuzzing.dependencies, path: fuzzing.path,
      exclude: ["ReplayTests.swift", "README.md", "Corpus", "Regressions"], swiftSettings: settings))
