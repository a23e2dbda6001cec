#!/usr/bin/env python3
"""Compiles every Swift block of the README, the articles, and the documentation comments.

    snippets.py MODULES [SWIFTC-ARGUMENT ...]     MODULES: the folder with the built modules

A block that leaves something out says what in a comment right before it, which no reader sees; a line with nothing but
`…` in that comment stands for the block:

    <!-- with
    import MessagePorts
    func example(port: MessagePort) throws {
    …
    }
    -->

A block that needs more than the library says which file has it, word for word, that is compiled elsewhere:

    <!-- from Examples/Sources/NIOLoop/main.swift -->

Errors are reported at the lines of the document. A block that begins with `// swift-tools-version` is a manifest.
"""

import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys

from tree import ROOT, complain, finish, swift_files

modules, arguments = sys.argv[1], sys.argv[2:]
work = pathlib.Path(modules).parent / "snippets"
shutil.rmtree(work, ignore_errors=True)
tools = pathlib.Path(shutil.which("swiftc")).resolve().parent.parent

BLOCK = re.compile(r"(?:<!-- with\n(?P<context>.*?)-->\n|<!-- from (?P<source>\S+) -->\n)?^```swift\n(?P<code>.*?)^```$", re.S | re.M)


def blocks(path):
    """(line, code, context) of each block. In Swift files, lines that are no documentation count as empty, and a block
    imports the library by itself."""
    text = path.read_text()
    otherwise = "import MessagePorts\nimport MessagePortsFoundation\n…\n" if path.suffix == ".swift" else "…\n"
    if path.suffix == ".swift":
        lines = (re.match(r" *///? ?(.*)", line) for line in text.split("\n"))
        text = "\n".join(line[1] if line else "" for line in lines)
    for match in BLOCK.finditer(text):
        if match["source"]:
            if match["code"] not in (ROOT / match["source"]).read_text():
                complain(path, text.count("\n", 0, match.start("code")) + 1, f"this is not in {match['source']}")
            continue
        yield text.count("\n", 0, match.start("code")) + 1, match["code"], match["context"] or otherwise


def check(number, path, line, code, context):
    folder = work / str(number)
    folder.mkdir(parents=True)
    before, _, after = context.partition("…\n")
    location = f'#sourceLocation(file: "{path}", line: {line})\n'
    program = folder / "main.swift"
    program.write_text(f"{before}{location}{code}#sourceLocation()\n{after}")
    # As far as the compiler finds errors: who owns what it checks after the types.
    command = ["swiftc", "-emit-sil", "-o", str(folder / "main.sil"), "-swift-version", "6", "-suppress-warnings"]
    if code.startswith("// swift-tools-version"):
        command += ["-I", str(tools / "lib/swift/pm/ManifestAPI"), "-package-description-version", "6.2"]
    else:
        command += ["-I", modules, *arguments]
    run = subprocess.run([*command, str(program)], capture_output=True, text=True, check=False)
    errors = re.findall(r"^(.*?):(\d+)(?::\d+)?: error: (.*)$", run.stderr, re.M)
    # What is wrong with the context of a block, or with the compiler, is reported at the block.
    errors = [(at, at_line, text) if at == str(path)
              else (str(path), line, f"in the block's context: {text}" if at == str(program) else text)
              for at, at_line, text in errors]
    if run.returncode != 0 and not errors:
        errors = [(str(path), line, run.stderr.strip())]
    return errors


documents = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "Benchmarks").glob("*.md")), *swift_files("Sources")]
for root in ("Sources", "Tests"):
    documents += sorted((ROOT / root).rglob("*.md"))
work_list = [(path, *block) for path in documents for block in blocks(path)]
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for errors in pool.map(lambda item: check(item[0], *item[1]), enumerate(work_list)):
        for path, line, text in errors:
            complain(path, line, text)
finish("snippets", f"{len(work_list)} blocks")
