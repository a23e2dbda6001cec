#!/usr/bin/env python3
"""Checks that every public declaration has documentation. Arguments: symbol graphs of the public interface."""

import json
import pathlib
import sys
import urllib.parse

from tree import complain, finish

count = 0
for graph in sys.argv[1:]:
    contents = json.loads(pathlib.Path(graph).read_text())
    for symbol in contents["symbols"]:
        location = symbol.get("location")
        if symbol["accessLevel"] not in ("public", "open") or not location:
            continue
        count += 1
        if "docComment" not in symbol:
            path = urllib.parse.unquote(urllib.parse.urlparse(location["uri"]).path)
            complain(path, location["position"]["line"] + 1,
                     f"{'.'.join(symbol['pathComponents'])} is public and has no documentation")
finish("documentation", f"{count} public declarations")
