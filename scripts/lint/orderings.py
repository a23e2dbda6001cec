#!/usr/bin/env python3
"""Checks that both ends of every memory ordering are labelled, and name each other.

MemoryOrdering.md has a table with a row for each label: the member or members at one end, and those at the other. Then

- a label stands in a comment of exactly those members, and its comment there names a member of the other end;
- every access that is not relaxed, and every fence, is in a member that has a label;
- every label has a section in MemoryOrdering.md.
"""

import re

from tree import LIBRARY, ROOT, SwiftFile, complain, finish, swift_files

ARTICLE = ROOT / "Sources/MessagePorts/MessagePorts.docc/MemoryOrdering.md"
LABEL = re.compile(r"\[([a-z]+(?:-[a-z]+)*)\](?!\()")
STRONG = re.compile(
    r"[oO]rdering: \.(?:acquiring|releasing|acquiringAndReleasing|sequentiallyConsistent)\b"
    r"|\b(?:atomicMemoryFence|csupport_store_load_fence|csupport_compiler_barrier|csupport_membarrier_global)\(")


def read_article():
    """label → (its line, members at one end, members at the other)"""
    table, headings = {}, set()
    for number, line in enumerate(ARTICLE.read_text().split("\n"), 1):
        row = re.match(r"\| `\[([a-z-]+)\]` \|([^|]*)\|([^|]*)\|", line)
        if row:
            table[row[1]] = (number, *(set(re.findall(r"`([\w.]+)[^`]*`", row[i])) for i in (2, 3)))
        elif line.startswith("## "):
            headings.update(LABEL.findall(line))
    for label, (number, *_) in table.items():
        if label not in headings:
            complain(ARTICLE, number, f"[{label}] has no section here")
    for label in headings - table.keys():
        complain(ARTICLE, 1, f"[{label}] has a section and no row in the table")
    return table


table = read_article()
found = {label: {} for label in table}  # label → member → where
strong = 0
for path in swift_files(*(f"Sources/{module}" for module in LIBRARY)):
    file = SwiftFile(path)
    labels_in = {}  # member → labels
    for index in range(len(file.lines)):
        for label in LABEL.findall(file.comment(index)):
            if label not in table:
                comment = file.comment(index)
                if "-" in label or comment.startswith(f"[{label}]") or comment.endswith(f"[{label}]"):
                    complain(path, index + 1, f"[{label}] is not in MemoryOrdering.md")
                continue
            _, member = file.declaration(index)
            found[label].setdefault(member, (path, index + 1))
            labels_in.setdefault(member, set()).add(label)
            ends = table[label][1:]
            if not any(member in end for end in ends):
                complain(path, index + 1, f"[{label}] also stands at {member}, which is neither of its ends")
                continue
            others = set().union(*(end for end in ends if member not in end)) or set.union(*ends)
            block = file.comment_block(index)
            if not any(re.search(rf"\b{re.escape(other.split('.')[-1])}\b", block) for other in others):
                complain(path, index + 1, f"[{label}] at {member} does not name {' or '.join(sorted(others))}")
    for index, line in enumerate(file.lines):
        if STRONG.search(line) and not file.is_comment(index):
            strong += 1
            _, member = file.declaration(index)
            if member not in labels_in:
                complain(path, index + 1, f"{member} orders memory and has no label: {line.strip()}")
for label, (number, *ends) in table.items():
    for member in sorted(set.union(*ends) - found[label].keys()):
        complain(ARTICLE, number, f"[{label}] does not stand at {member}")
finish("orderings", f"{len(table)} labels, {strong} accesses and fences")
