"""What the checks have in common: the sources of the library, and the complaints."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = ["SharedRing", "MessageCoding", "MessagePorts", "MessagePortsFoundation"]

complaints = []


def complain(path, line, text):
    """One complaint, in the form that editors understand."""
    where = pathlib.Path(path)
    if where.is_absolute():
        where = where.relative_to(ROOT)
    complaints.append(f"{where}:{line}: {text}")


def finish(name, seen):
    """Prints what was found and ends the process; `seen` says what was looked at."""
    for complaint in complaints:
        print(complaint)
    print(f"{name}: {seen}, {len(complaints) or 'no'} complaint{'' if len(complaints) == 1 else 's'}")
    sys.exit(1 if complaints else 0)


def swift_files(*folders):
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.swift"))


DECLARATION = re.compile(
    r"^(?P<indent> *)(?:@\w+(?:\([^)]*\))? +|[a-z]+(?:\(set\))? +)*?"
    r"(?P<kind>func|var|let|init|deinit|subscript|struct|class|enum|extension|protocol|actor|case)\b *(?P<name>[\w.]*)")

# What may stand above a declaration and belongs to it: comments and attributes.
ABOVE = re.compile(r" *(//|@\w+(\([^)]*\))?( @\w+(\([^)]*\))?)* *$)")


class SwiftFile:
    """Lines of a Swift file, and which declaration each belongs to, told by indentation."""

    TYPES = {"struct", "class", "enum", "extension", "protocol", "actor"}
    MEMBERS = {"func", "var", "init", "deinit", "subscript"}

    def __init__(self, path):
        self.path = path
        self.lines = path.read_text().split("\n")

    def comment(self, index):
        """The text of the comment in a line, or an empty one."""
        match = re.search(r"(?<![:\"])//+ ?(.*)$", self.lines[index])
        return match.group(1) if match else ""

    def is_comment(self, index):
        return self.lines[index].lstrip().startswith("//")

    def declaration(self, index):
        """The member that a line is in (for a comment: that it documents), as (line, "Type.member")."""
        # A comment above a declaration belongs to it, attributes in between included.
        start = index
        while start < len(self.lines) - 1 and ABOVE.match(self.lines[start]):
            start += 1
        indent = len(self.lines[start]) - len(self.lines[start].lstrip())
        own = DECLARATION.match(self.lines[start])
        is_documented = start != index and own is not None and own["kind"] in self.MEMBERS
        if start != index and not is_documented:
            start = index
            indent = len(self.lines[start]) - len(self.lines[start].lstrip())
        member = None
        limit = indent + 1  # the line itself may be a whole declaration
        for line in range(start, -1, -1):
            match = DECLARATION.match(self.lines[line])
            if self.is_comment(line) or not match or len(match["indent"]) >= limit:
                continue
            kind = match["kind"]
            if kind in self.TYPES:
                name = match["name"].split(".")[-1]
                return (member[0], f"{name}.{member[1]}") if member else (line, name)
            if kind in self.MEMBERS and (len(match["indent"]) < indent or line == start):
                member = (line, match["name"] or kind)
                limit = len(match["indent"])
        return member or (0, self.path.stem)

    def comment_block(self, index):
        """The whole comment that a line of comment belongs to."""
        first = last = index
        if self.is_comment(index):
            while first > 0 and self.is_comment(first - 1):
                first -= 1
            while last < len(self.lines) - 1 and self.is_comment(last + 1):
                last += 1
        return " ".join(self.comment(line) for line in range(first, last + 1))
