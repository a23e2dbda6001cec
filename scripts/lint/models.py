#!/usr/bin/env python3
"""Checks that the models of the protocols and the code speak of the same things.

Each `inline` of a model is a function of the code by that name, unless the model's line `Own:` lists it; and each file,
`Type.member`, and `member` in backquotes that a model or the README beside it names exists.
"""

import re

from tree import LIBRARY, ROOT, complain, finish, swift_files

MODELS = ROOT / "Tests/Models"
sources = [*swift_files("Sources"), *sorted((ROOT / "CSupport").rglob("*.[ch]"))]
files = {path.name for path in sources}
words = set()
for path in sources:
    words.update(re.findall(r"\w+", path.read_text()))

texts = sorted([*MODELS.glob("*.pml"), *MODELS.glob("*.inc"), MODELS / "README.md"])
variants = set(re.findall(r"\b[A-Z][A-Z_]+\b", "\n".join(path.read_text() for path in texts)))
model_words = set()
for path in texts:
    if path.suffix != ".md":
        model_words.update(re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)))
own = set()
for path in texts:
    for line in re.findall(r"Own: ([^*]*)", path.read_text()):
        own.update(re.findall(r"\w+", line))

names = 0
for path in texts:
    comment = False
    for number, line in enumerate(path.read_text().split("\n"), 1):
        inline = re.match(r"inline (\w+)", line)
        if inline:
            names += 1
            if inline[1] not in words | own:
                complain(path, number, f"`{inline[1]}` is no function of the code, and not listed as the model's own")
        # In a model only what comments say is about the code.
        said = line
        if path.suffix != ".md":
            parts = re.split(r"(/\*|\*/)", line)
            said = ""
            for part in parts:
                if part == "/*":
                    comment = True
                elif part == "*/":
                    comment = False
                elif comment:
                    said += part + " "
        for name in re.findall(r"\b[\w+]+\.swift\b", said):
            names += 1
            if name not in files:
                complain(path, number, f"there is no {name}")
        for type_name, member in re.findall(r"\b([A-Z][a-z]\w*)\.([a-z]\w+)\b(?!\.)", said):
            if member in ("swift", "md"):
                continue
            names += 1
            for word in (type_name, member):
                if word not in words:
                    complain(path, number, f"there is no `{word}`, of `{type_name}.{member}`")
        for quoted in re.findall(r"`([a-z]\w*[A-Z]\w*)[^`]*`", said):
            names += 1
            if quoted not in words | model_words:
                complain(path, number, f"there is no `{quoted}`")
finish("models", f"{names} names in {len(texts)} files")
