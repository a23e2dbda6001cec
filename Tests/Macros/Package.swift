// swift-tools-version: 6.2
import PackageDescription

/// As in the main package: warnings are errors, and each unsafe use is marked as such in the source.
let settings: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .strictMemorySafety(),
]

/// A package of its own: the suite of the main one does without swift-syntax, as most programs do.
let package = Package(
  name: "macro-tests",
  dependencies: [
    .package(name: "swift-message-ports", path: "../..", traits: ["Macros"]),
    .package(url: "https://github.com/swiftlang/swift-syntax", from: "603.0.1"),
  ],
  targets: [
    .testTarget(
      name: "DerivedTests",
      dependencies: [
        .product(name: "MessagePorts", package: "swift-message-ports"),
        .product(name: "MessagePortsMacros", package: "swift-message-ports"),
      ],
      swiftSettings: settings),
    // The plugin's sources are a part of the tests, since no package may link another one's plugin.
    .testTarget(
      name: "ExpansionTests",
      dependencies: [
        .product(name: "SwiftSyntaxMacros", package: "swift-syntax"),
        .product(name: "SwiftSyntaxMacrosGenericTestSupport", package: "swift-syntax"),
      ],
      exclude: ["Plugin/Plugin.swift"],
      swiftSettings: settings + [.define("Macros")]),
  ],
  swiftLanguageModes: [.v6]
)
