#!/usr/bin/env python3
"""Checks that what documents link to exists: files, and headings in them."""

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
finish("links", f"{count} links in {len(documents)} documents")
