#!/usr/bin/env python3
"""What the README says about speed, over several runs: the least and the greatest of each, so that it holds for all.

Usage: claims.py [RUN.jsonl …]     without arguments: results/latest.jsonl as it is, and as it was in each commit that changed it

Ratios of ours to others are of figures that were measured near one another in time, within one run. "Ahead" is more than 1.
"""

import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
LATEST = "Benchmarks/results/latest.jsonl"
SIZES = {8: "8 B", 64: "64 B", 1024: "1 KiB", 8192: "8 KiB", 65536: "64 KiB", 1 << 20: "1 MiB"}


def parse(text):
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def git(*arguments):
    return subprocess.run(["git", "-C", str(HERE.parent), *arguments], check=True, capture_output=True, text=True).stdout


def runs(paths):
    """Name and figures of each run, the newest first, each only once."""
    if paths:
        return [(path, parse(pathlib.Path(path).read_text())) for path in paths]
    found = {"now": (HERE / "results/latest.jsonl").read_text()}
    for line in git("log", "--format=%h %cs", "--", LATEST).splitlines():
        commit, day = line.split()
        text = git("show", f"{commit}:{LATEST}")
        if text not in found.values():
            found[f"{day} {commit}"] = text
    return [(name, parse(text)) for name, text in found.items()]


def best(figures, tier, metric, size, who=None):
    """The best value of a tier, or of one of its systems; of figures that were measured near."""
    values = [
        f["value"] for f in figures
        if f["tier"] == tier and f["metric"] == metric and f["size"] == size and f["value"] is not None
        and not f.get("kept_far") and (who is None or f["who"] == who)
    ]
    return (min if metric.endswith("_ns") else max)(values, default=None)


def ratio(a, b):
    return a / b if a and b else None


def claims(figures):
    """Each sentence, and its number in this run, or None."""
    ours = "swift-message-ports"
    result = {}
    for size, name in SIZES.items():
        result[f"one way, {name}: halves / best peer (more is better)"] = ratio(
            best(figures, "fast", "oneway_msgs_per_s", size), best(figures, "peer", "oneway_msgs_per_s", size))
    for size in (8, 64, 256, 1024, 8192, 65536):
        name = SIZES.get(size, f"{size} B")
        result[f"round trip, {name}: halves / best peer (less is better)"] = ratio(
            best(figures, "fast", "rtt_poll_ns", size), best(figures, "peer", "rtt_poll_ns", size))
    for size in (1024, 8192, 65536, 1 << 20):
        result[f"in place, {SIZES[size]}: halves / iceoryx (more is better)"] = ratio(
            best(figures, "fast", "inplace_bytes_per_s", size), best(figures, "peer", "inplace_bytes_per_s", size))
    result["round trip, 8 B: halves / a bounced cache line"] = ratio(
        best(figures, "fast", "rtt_poll_ns", 8), best(figures, "limit", "rtt_poll_ns", 4))
    for metric, name in (("transfer_reply_per_s", "one at a time"), ("transfer_pipelined_per_s", "64 in flight")):
        for who, tier in (("node_worker_threads", "peer"), ("socketpair_passed", "limit")):
            result[f"ports transferred, {name}: ours / {who} (more is better)"] = ratio(
                best(figures, "port", metric, None, ours), best(figures, tier, metric, None, who))
    for metric, name in (("rtt_sleep_onecore_ns", "one core"),):
        result[f"sleeping, {name}: handlers / futex"] = ratio(
            best(figures, "port", metric, 8, f"{ours} (handlers)"), best(figures, "limit", metric, 4, "futex"))
    for who, name in ((ours, "Codable"), (f"{ours} (MessageValue)", "MessageValue"), ):
        value = best(figures, "port", "codable_msgs_per_s", None, who)
        result[f"values, {name}: millions a second"] = value and value / 1e6
    value = best(figures, "port", "oneway_msgs_per_s", 8, ours)
    result["ports, 8 B post to handler: millions a second"] = value and value / 1e6
    return result


def main():
    all_claims = [(name, claims(figures)) for name, figures in runs(sys.argv[1:])]
    print("runs:", ", ".join(name for name, _ in all_claims))
    for claim in all_claims[0][1]:
        values = [numbers[claim] for _, numbers in all_claims if numbers.get(claim) is not None]
        text = f"{min(values):.2f} to {max(values):.2f} in {len(values)} runs" if values else "not measured"
        print(f"{claim}: {text}" + (f"  ({', '.join(f'{v:.2f}' for v in values)})" if len(values) > 1 else ""))


main()
