"""Draws results/report.html, self-contained, from results/latest.jsonl and results/about.json.

With --png DIRECTORY, every picture is written there as well, to be looked at.
"""

import argparse
import base64
import html
import io
import json
import pathlib
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

OURS = "swift-message-ports"
ORDER = {"fast": 0, "port": 1, "limit": 2, "peer": 3}  # of other loops, whose instructions are counted: after these
RESULTS = pathlib.Path(__file__).parent / "results"
COLOURS = {"fast": "#c1121f", "port": "#1d4ed8", "limit": "#111111"}
PEER_COLOURS = ["#6b7280", "#b45309", "#047857", "#7c3aed", "#be185d", "#0e7490", "#65a30d", "#a16207", "#4338ca", "#9d174d", "#0f766e", "#c2410c", "#7e22ce", "#15803d", "#334155", "#0369a1"]
MARKERS = "svD^vP*X<>hpd8H1"

plt.rcParams.update({
    "figure.figsize": (10, 5.6), "figure.dpi": 100, "savefig.bbox": "tight", "font.size": 10.5,
    "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.35, "grid.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 8.5,
    "svg.fonttype": "path",
})


# MARK: Figures


def load(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def system(figure):
    """Who it is without the way in which it was used: the peers of one name share a colour."""
    return figure["who"].split(" (")[0]


def variant(figure):
    return figure["who"].split(" (", 1)[1].rstrip(")") if " (" in figure["who"] else ""


def label(figure):
    name = {"fast": "ours, fast tier", "port": "ours, port tier"}.get(figure["tier"], system(figure))
    return name + (f", {variant(figure)}" if variant(figure) else "")


class Looks:
    """One colour and marker per peer, the same in all pictures."""

    def __init__(self, figures):
        peers = sorted({system(f) for f in figures if f["tier"] == "peer"})
        self.peer = {name: (PEER_COLOURS[i % len(PEER_COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(peers)}

    def of(self, figure):
        tier = figure["tier"]
        if tier == "peer":
            colour, marker = self.peer[system(figure)]
            return dict(color=colour, marker=marker, lw=1.1, ms=4.5, ls="--" if variant(figure) else "-", alpha=0.9)
        if tier == "limit":
            return dict(color=COLOURS["limit"], marker="", lw=1.3, ls=":")
        return dict(color=COLOURS[tier], marker="o", lw=2.2, ms=6, ls="--" if variant(figure) else "-")


def without_ring(figure):
    """The way in which a system was used, without the size of its ring."""
    return ", ".join(part for part in variant(figure).split(", ") if part and not re.fullmatch(r"ring\d+k", part))


def best_of(figures, name):
    """Of each peer and limit, metric and size, the best of those that `name` gives one name; the name becomes the figure's."""
    best = {}
    for figure in figures:
        if figure["value"] is None or figure["tier"] not in ("peer", "limit"):
            continue
        key = (figure["tier"], system(figure), name(figure), figure["metric"], figure["size"])
        is_rate = figure["unit"].endswith("/s")
        if key not in best or (figure["value"] > best[key]["value"]) == is_rate:
            best[key] = figure
    others = [dict(f, who=who + (f" ({way})" if way else "")) for (_, who, way, _, _), f in best.items()]
    return [f for f in figures if f["tier"] not in ("peer", "limit")] + others


def series(figures, metric, keep):
    """Label to figures in order of size, of those that `keep` wants and that have a value."""
    lines = {}
    for figure in figures:
        if figure["metric"] == metric and figure["value"] is not None and figure["size"] and keep(figure):
            lines.setdefault((figure["tier"], figure["who"]), []).append(figure)
    for line in lines.values():
        line.sort(key=lambda f: f["size"])
    order = {"fast": 0, "port": 1, "peer": 2, "limit": 3}
    return [lines[key] for key in sorted(lines, key=lambda k: (order[k[0]], k[1]))]


# MARK: Axes


def bytes_text(size, _=None):
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size:g} B"


def quantity(unit):
    def text(value, _=None):
        for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= factor:
                return f"{value / factor:g} {prefix}{unit}"
        return f"{value:g} {unit}"

    return text


def time_text(nanoseconds, _=None):
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if nanoseconds >= factor:
            return f"{nanoseconds / factor:g} {unit}"
    return f"{nanoseconds:g} ns"


def log_axes(axes, sizes, x_text, y_text):
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted(sizes))
    axes.xaxis.set_major_formatter(x_text)
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.yaxis.set_major_formatter(y_text)
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.grid(True, which="minor", axis="y", alpha=0.12)


def legend(axes):
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


# MARK: Pictures


def against_size(figures, looks, metric, title, y_text, keep):
    fig, axes = plt.subplots()
    sizes = set()
    for line in series(figures, metric, keep):
        sizes |= {f["size"] for f in line}
        x, y = [f["size"] for f in line], [f["value"] for f in line]
        low = [max(0, f["value"] - f["min"]) for f in line]
        high = [max(0, f["max"] - f["value"]) for f in line]
        axes.errorbar(x, y, yerr=[low, high], capsize=2, elinewidth=0.8, label=label(line[0]), **looks.of(line[0]))
    if not sizes:
        return None
    log_axes(axes, sizes, bytes_text, y_text)
    axes.set_xlabel("message size")
    axes.set_title(title, loc="left", fontweight="bold")
    legend(axes)
    return fig


def is_plain(figure):
    """Ours without the ways that a picture against size has no room for."""
    return figure["tier"] in ("limit", "peer") or variant(figure) in ("", "run64")


def copies_only(figure):
    return is_plain(figure) and (figure["tier"] != "limit" or system(figure) == "memcpy")


def percentile_curves(figures, looks, metric, title, keep):
    fig, axes = plt.subplots()
    lines = [f for f in figures if f["metric"] == metric and f.get("curve") and f["value"] and keep(f)]
    order = {"fast": 0, "port": 1, "peer": 2, "limit": 3}
    for figure in sorted(lines, key=lambda f: (order[f["tier"]], f["who"])):
        points = [(100 / (100 - p), ns) for p, ns in figure["curve"] if p < 100]
        style = looks.of(figure)
        if len(points) > 8:
            style["marker"] = ""
        if figure["tier"] == "limit":
            style["marker"] = "."
        axes.plot([x for x, _ in points], [y for _, y in points], label=label(figure), **style)
    if not lines:
        return None
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [(1, "min"), (2, "50 %"), (10, "90 %"), (100, "99 %"), (1000, "99.9 %"), (10000, "99.99 %")]
    axes.set_xticks([x for x, _ in ticks], [text for _, text in ticks])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xlim(1.5, 13000)
    axes.yaxis.set_major_formatter(time_text)
    axes.grid(True, which="minor", axis="y", alpha=0.12)
    axes.set_xlabel("percentile of round trips")
    axes.set_title(title, loc="left", fontweight="bold")
    legend(axes)
    return fig


def bars(figures, title, value_text, keep):
    """The systems one below the other, the best on top, on a log axis: for figures without a size."""
    rows = [f for f in figures if f["value"] and keep(f)]
    if not rows:
        return None
    is_time = rows[0]["unit"] == "ns"
    rows.sort(key=lambda f: f["value"], reverse=is_time)
    fig, axes = plt.subplots(figsize=(10, 0.9 + 0.3 * len(rows)))
    smallest = min(f["value"] for f in rows) / 2
    for y, figure in enumerate(rows):
        colour = COLOURS.get(figure["tier"], "#9ca3af")
        axes.barh(y, figure["value"] - smallest, left=smallest, color=colour, height=0.7, alpha=0.85)
        axes.errorbar(
            figure["value"], y, xerr=[[max(0, figure["value"] - figure["min"])], [max(0, figure["max"] - figure["value"])]],
            color="#374151", lw=0.8, capsize=2)
        axes.text(figure["max"] * 1.03, y, " " + value_text(float(f"{figure['value']:.3g}")), va="center", fontsize=8.5)
    axes.set_xscale("log")
    axes.set_xlim(smallest, max(f["max"] for f in rows) * 2)
    axes.xaxis.set_major_formatter(value_text)
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.set_yticks(range(len(rows)), [label(f) for f in rows], fontsize=8.5)
    axes.grid(False, axis="y")
    axes.set_title(title, loc="left", fontweight="bold")
    return fig


def cost_of_ports(figures):
    fig, axes = plt.subplots()
    lines = series(figures, "cost_vs_one_port", lambda f: True)
    for style, line in zip(("-", "--", ":"), lines):
        name = variant(line[0]) or "round trips, each on the next port"
        axes.plot([f["size"] for f in line], [f["value"] for f in line], color=COLOURS["port"], ls=style, marker="o", lw=2, label=name)
    if not lines:
        return None
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.axhline(1.2, color="#111111", lw=0.8, ls=":", label="1.2 × one port")
    axes.set_xticks([f["size"] for f in lines[0]], [f"{f['size']:,}" for f in lines[0]])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.yaxis.set_major_formatter(lambda v, _: f"{v:g} ×")
    axes.yaxis.set_minor_formatter(lambda v, _: f"{v:g} ×" if v < 3 else "")
    axes.set_xlabel("ports open between the two processes")
    axes.set_title("Cost of a message, relative to one port", loc="left", fontweight="bold")
    legend(axes)
    return fig


def of_processors(figures, metric):
    """The same figures, of the processor time that a message costs both sides."""
    key = "cpu_ns_per_message"
    return [dict(f, value=f[key], min=f[key], max=f[key], unit="ns", metric=f"cpu of {metric}") for f in figures if f["metric"] == metric and f.get(key)]


def pictures(all_figures):
    looks = Looks(all_figures)
    # Against size, each peer is one line: its best in each place. Elsewhere, the best size of ring of each way to use it.
    lines, figures = best_of(all_figures, lambda f: ""), best_of(all_figures, without_ring)
    is_8 = lambda f: f["size"] in (4, 8)  # noqa: E731  (4: the limits bounce a word)
    yield "throughput", against_size(
        lines, looks, "oneway_msgs_per_s", "Throughput: messages per second, one way", quantity("/s"), copies_only)
    yield "bandwidth", against_size(
        lines, looks, "oneway_bytes_per_s", "Throughput: bytes per second, one way", quantity("B/s"), copies_only)
    yield "in-place", against_size(
        lines, looks, "inplace_bytes_per_s", "Written and read where it lies: bytes per second, one way", quantity("B/s"), lambda f: True)
    yield "latency", against_size(
        lines, looks, "rtt_poll_ns", "Round trip, both sides polling (median; bars: repetitions)", time_text,
        lambda f: is_plain(f) and f["tier"] != "limit" or f["who"] == "cache_line")
    yield "percentiles-polling", percentile_curves(
        figures, looks, "rtt_poll_ns", "Round trip of 8 bytes, both sides polling", lambda f: is_8(f) and variant(f) != "unpinned")
    yield "percentiles-sleeping", percentile_curves(
        figures, looks, "rtt_sleep_ns", "Round trip of 8 bytes, both sides sleeping, two cores",
        lambda f: is_8(f) and not any(x in variant(f) for x in ("awake", "unpinned")))
    for name, title, keep in (
        ("sleeping", "Round trip of 8 bytes, sleeping, two cores", lambda v: "awake" not in v and "unpinned" not in v),
        ("sleeping-awake", "Round trip of 8 bytes, sleeping, cores kept from halting", lambda v: "awake" in v),
    ):
        yield name, bars(
            figures, title, time_text, lambda f, keep=keep: f["metric"] == "rtt_sleep_ns" and is_8(f) and keep(variant(f)))
    yield "sleeping-onecore", bars(
        figures, "Round trip of 8 bytes, sleeping, one core", time_text, lambda f: f["metric"] == "rtt_sleep_onecore_ns" and is_8(f))
    yield "one-way-8", bars(
        figures, "8 bytes, one way: every way to receive", quantity("/s"),
        lambda f: f["metric"] == "oneway_msgs_per_s" and f["size"] == 8)
    for name, metric, title in (
        ("cpu-one-way", "oneway_msgs_per_s", "8 bytes, one way"),
        ("cpu-sleeping-onecore", "rtt_sleep_onecore_ns", "round trip of 8 bytes, sleeping, one core"),
    ):
        spent = of_processors(figures, metric)
        yield name, bars(spent, f"Processor time of a message, both sides together: {title}", time_text, is_8)
    yield "death", bars(
        figures, "A killed process is missed after", time_text, lambda f: f["metric"] == "death_notice_ns")
    yield "codable", bars(figures, "Values of five fields, one nested", quantity("/s"), lambda f: f["metric"] == "codable_msgs_per_s")
    yield "creation", bars(figures, "Channels made and closed", quantity("/s"), lambda f: f["metric"] == "create_per_s")
    yield "transfer", bars(
        figures, "Channel made, transferred, first answer: one at a time", quantity("/s"),
        lambda f: f["metric"] == "transfer_reply_per_s" and "one core" not in variant(f) and "awake" not in variant(f))
    yield "transfer-pipelined", bars(
        figures, "Channel made, transferred, first answer: 64 under way", quantity("/s"),
        lambda f: f["metric"] == "transfer_pipelined_per_s")
    yield "ports", cost_of_ports(figures)


# MARK: Page


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; color: #111827 }
img { max-width: 100%; margin: .6rem 0 1.4rem } table { border-collapse: collapse; font-size: 13px; margin: .6rem 0 1.6rem }
th, td { border-bottom: 1px solid #e5e7eb; padding: .2rem .6rem; text-align: left; vertical-align: top } td.n { text-align: right; white-space: nowrap }
.pass { color: #047857 } .miss { color: #c1121f; font-weight: 600 } pre { font-size: 12px; overflow-x: auto } .wide { overflow-x: auto }
"""


def value_text(figure, key="value"):
    value = figure[key]
    if value is None:
        return figure.get("error", "–") if key == "value" else "–"
    rounded = float(f"{value:.4g}")
    unit = figure["unit"]
    if unit == "ns":
        return time_text(rounded)
    if unit in ("1/s", "B/s"):
        return quantity("B/s" if unit == "B/s" else "/s")(rounded)
    return f"{rounded:g}" + (" B" if unit == "B" else "")


def page(figures, about, drawn, disassembly):
    out = [f"<!doctype html><meta charset=utf-8><title>Message ports, measured</title><style>{STYLE}</style>"]
    out.append("<h1>Message ports, measured</h1>")
    facts = [["date", about["date"]], ["command", about["command"]]] + about["machine"]
    out.append("<table>" + "".join(f"<tr><th>{html.escape(a)}<td>{html.escape(b)}" for a, b in facts) + "</table>")
    out.append("<h2>What was to be reached</h2><table><tr><th>what<th>target<th>reached<th><th>bounded by")
    for bar in about["bars"]:
        out.append(
            f"<tr><td>{html.escape(bar['title'])}<td class=n>{html.escape(bar['target'])}<td class=n>{html.escape(bar['reached'])}"
            f"<td class={bar['result'] or 'none'}>{bar['result']}<td>{html.escape(bar.get('bound', ''))}")
    out.append("</table><h2>Pictures</h2>")
    out.append("<p>Ours is red (fast tier) and blue (port tier), limits are black, peers have other colours: against size, each in the best of its ways at that size. All axes of quantities are logarithmic.")
    for name, svg in drawn:
        out.append(f'<img alt="{name}" src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">')
    out.append("<h2>All figures</h2><p>Limit: the best that anybody reached in that cell, measured while the two virtual processors were near. Ratio: the value divided by it. Far: repetitions kept although the processors were far apart; such a figure is held against nothing. CPU: processor time of a message, both sides together. Percentiles are of single round trips in a closed loop, pooled over the repetitions, of all in the same way.")
    for metric in sorted({f["metric"] for f in figures}):
        out.append(f"<h3>{metric}</h3><div class=wide><table><tr>")
        out.append("".join(f"<th>{t}" for t in ("who", "tier", "size", "median", "min", "max", "limit", "is", "ratio", "CPU", "far", "percentiles", "includes", "build")))
        rows = [f for f in figures if f["metric"] == metric]
        for f in sorted(rows, key=lambda f: (f["size"] or 0, ORDER.get(f["tier"], len(ORDER)))):
            percentiles = ", ".join(f"{k} {time_text(v)}" for k, v in f.get("percentiles_ns", {}).items())
            far = f"{f['kept_far']} of {f['repetitions']}" if f.get("kept_far") else ""
            cells = [("", f["who"]), ("", f["tier"]), ("n", "" if f["size"] is None else f"{f['size']}"), ("n", value_text(f)), ("n", value_text(f, "min")),
                     ("n", value_text(f, "max")), ("n", value_text(f, "limit")), ("", f.get("limit_is") or ""),
                     ("n", "" if f["ratio"] is None else f"{f['ratio']:.3g}"), ("n", time_text(float(f"{f['cpu_ns_per_message']:.3g}")) if f.get("cpu_ns_per_message") else ""), ("n", far), ("", percentiles), ("", f.get("includes", "")), ("", f.get("build", ""))]
            out.append("<tr>" + "".join(f'<td class="{c}">{html.escape(t)}' for c, t in cells))
        out.append("</table></div>")
    if disassembly:
        out.append(f"<h2>The loops as the compiler made them</h2><details><summary>disassembly</summary><pre>{html.escape(disassembly)}</pre></details>")
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--png", type=pathlib.Path, help="also write every picture there")
    arguments = parser.parse_args()
    figures = load(RESULTS / "latest.jsonl")
    about = json.loads((RESULTS / "about.json").read_text())
    if arguments.png:
        arguments.png.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, picture in pictures(figures):
        if picture is None:
            continue
        buffer = io.BytesIO()
        picture.savefig(buffer, format="svg", metadata={"Date": None})
        drawn.append((name, buffer.getvalue()))
        if name in ("throughput", "latency"):  # the two of the README
            (RESULTS / f"{name}.svg").write_bytes(buffer.getvalue())
        if arguments.png:
            picture.savefig(arguments.png / f"{name}.png")
        plt.close(picture)
    disassembly = RESULTS / "disassembly.txt"
    text = page(figures, about, drawn, disassembly.read_text() if disassembly.exists() else "")
    (RESULTS / "report.html").write_text(text)
    print(f"{RESULTS / 'report.html'}: {len(drawn)} pictures, {len(figures)} figures, {len(text) >> 10} KiB")


main()
