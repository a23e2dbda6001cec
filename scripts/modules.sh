# For scripts that use the built modules; they set `build`, the folder of the build, before.
# Sets: target, the triple; clang_modules, the arguments that make the C modules known.
target=$(swiftc -print-target-info | sed -nE 's/^ *"unversionedTriple": "(.*)",?$/\1/p' | head -n 1)
clang_modules=(-I CSupport/include -Xcc "-fmodule-map-file=$PWD/$build/CSupport.build/module.modulemap")
