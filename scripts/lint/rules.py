#!/usr/bin/env python3
"""Checks that the rules that tests and comments cite exist, and that each rule in force is cited by a test. A section or a
rule that is not yet in force says "*Planned*".

A test cites a rule at the beginning of its display name, or of its suite's: "3.8 …", or "3.8, 4.4 …". A comment cites it as
"rule 3.8".
"""

import re

from tree import ROOT, complain, finish, swift_files

ARTICLE = ROOT / "Sources/MessagePorts/MessagePorts.docc/Semantics.md"
rules, planned = {}, set()
section = 0
for number, line in enumerate(ARTICLE.read_text().split("\n"), 1):
    heading = re.match(r"## (\d+)\. ", line)
    if heading:
        section, last = int(heading[1]), 0
    elif line.startswith("*Planned"):
        planned.add(str(section))
    rule = re.match(r"- \*\*(\d+)\.(\d+)\*\* ", line)
    if rule:
        if int(rule[1]) != section or int(rule[2]) != last + 1:
            complain(ARTICLE, number, f"{rule[1]}.{rule[2]} does not follow {section}.{last}")
        last = int(rule[2])
        rules[f"{section}.{last}"] = number
    if line.endswith("*Planned.*"):
        planned.add(f"{section}.{last}")

NAME = re.compile(r"@(?:Test|Suite)\(\s*\"(\d+\.\d+(?:(?:, | and )\d+\.\d+)*) ")
cited = {}
for path in [*swift_files("Tests", "Sources"), *sorted((ROOT / "CSupport").rglob("*.[ch]"))]:
    text = path.read_text()
    for match in NAME.finditer(text):
        for rule in re.findall(r"\d+\.\d+", match[1]):
            cited.setdefault(rule, []).append((path, text.count("\n", 0, match.start()) + 1))
    for match in re.finditer(r"\brules? (\d+\.\d+)", text):
        if match[1] not in rules:
            complain(path, text.count("\n", 0, match.start()) + 1, f"there is no rule {match[1]}")
for rule in cited.keys() - rules.keys():
    for path, number in cited[rule]:
        complain(path, number, f"there is no rule {rule}")
for rule, number in rules.items():
    if rule not in cited and planned.isdisjoint({rule, rule.split(".")[0]}):
        complain(ARTICLE, number, f"no test cites rule {rule}")
finish("rules", f"{len(rules)} rules, {sum(map(len, cited.values()))} tests that cite them")
