#!/usr/bin/env python3
"""Checks that what documents link to exists: files, and headings in them; and the files that Architecture draws."""

import re

from tree import ROOT, complain, finish

documents = [*sorted(ROOT.glob("*.md"))]
for folder in ("Sources", "Tests", "Benchmarks", "scripts"):
    documents += [path for path in sorted((ROOT / folder).rglob("*.md")) if ".build" not in str(path)]


def headings(path):
    for line in re.findall(r"^#+ (.*)$", path.read_text(), re.M):
        yield re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-")


count = 0
for path in documents:
    fenced = False
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if line.startswith("```"):
            fenced = not fenced
        if fenced:
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            name, _, heading = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists():
                complain(path, number, f"there is no {target}")
            elif heading and heading not in headings(file):
                complain(path, number, f"{name or path.name} has no heading #{heading}")
        # Paths in backquotes: `Sources/…`, `Tests/…`, `scripts/…`, `Benchmarks/…`, `CSupport/…`.
        for target in re.findall(r"`((?:Sources|Tests|scripts|Benchmarks|CSupport)/[\w./+-]*[\w/])`", line):
            count += 1
            if not (ROOT / target).exists() and not (path.parent / target).exists():
                complain(path, number, f"there is no {target}")

# The tree in Architecture: folders, and files by the names of their types. `RingProducer, +Stage` is two of them.
article = ROOT / "Sources/MessagePorts/MessagePorts.docc/Architecture.md"
source_paths = [path for path in (ROOT / "Sources").rglob("*") if ".docc" not in str(path)]
names = {path.stem for path in source_paths if path.suffix == ".swift"}
folders = {path.name for path in source_paths if path.is_dir()} | {path.name for path in ROOT.iterdir() if path.is_dir()}
for number, line in enumerate(article.read_text().split("\n"), 1):
    if not line.startswith("    "):
        continue
    missing = {name for name in re.findall(r"\b(\w+)/", line) if name not in folders}
    missing |= {name for name in re.findall(r"\b(?:[A-Z][a-z]+){2,}\b(?!/)", line) if name not in names}
    for whole, first in re.findall(r"\b((\w+)(?:, \+\w+)+)", line):
        missing |= {f"{first}+{part}" for part in re.findall(r"\+(\w+)", whole) if f"{first}+{part}" not in names}
    count += 1
    for name in sorted(missing):
        complain(article, number, f"there is no {name}")
finish("links", f"{count} links in {len(documents)} documents")
