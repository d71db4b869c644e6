"""How the cost of evaluation and re-ranking grows with the gallery, as a picture.

    python benchmarks/growth.py OUT.svg [--rows 1000 4000 16000 64000] [--torchreid METRICS] [--original RE_RANKING.py]

The data and the others are those of evaluation.py, with one query for five gallery rows and a person for 21. Each
contender is run once a size, smallest first, and no more once a run took over --seconds of CPU time or 6 GiB.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import evaluation
import numpy as np

from reid import charts
from reid.charts import Axis, Line, Mark

MEMORY = 6 << 10
COLOURS = ("#2458c5", "#7c8794", "#b4532a", "#8a5cc2", "#1c7a4b", "#0f8a99", "#b03a6b")
STYLE = """svg { background: #fff } .chart text { font: 12px system-ui, sans-serif; fill: #5b6672 }
.chart .label, .chart .named { fill: #1d2530 } .chart path { fill: none }
.grid { stroke: #dfe4ea } .axis { stroke: #8a94a0 }
.line { stroke: currentColor; stroke-width: 2 } .dot { fill: currentColor } .named { font-size: 12px }"""


def chart(seen: dict[str, list[tuple[int, float]]], label: str, colours: dict[str, str]) -> str:
    """One `<svg>`, both axes logarithmic."""
    lines = []
    for name, points in seen.items():
        rows, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        lines.append(Line(rows, values, f"--{colours[name]}", marks=[Mark(r, v, "") for r, v in points]))
    rows = sorted({rows for points in seen.values() for rows, _ in points})
    values = [value for points in seen.values() for _, value in points]
    low, high = 10 ** np.floor(np.log10(min(values))), 10 ** np.ceil(np.log10(max(values)))
    x = Axis("rows in the gallery", rows[0] * 0.9, rows[-1] * 1.1, rows, charts.tick, log=True)
    return charts.line_chart(lines, x, charts.decades(label, float(low), float(high), charts.tick), label)


def page(seen: dict[str, list[tuple[int, float, int]]]) -> str:
    """Two charts and their key as one SVG that needs no page."""
    names = list(seen)
    variables = {name: f"c{i}" for i, name in enumerate(names)}
    both = [
        chart({n: [(r, s) for r, s, _ in p] for n, p in seen.items()}, "seconds of CPU time", variables),
        chart({n: [(r, m) for r, _, m in p] for n, p in seen.items()}, "peak memory of the process, MiB", variables),
    ]
    placed = "".join(
        drawn.replace("<svg ", f'<svg x="{10 + i * 420}" y="10" width="{charts.WIDTH}" height="{charts.HEIGHT}" ', 1)
        for i, drawn in enumerate(both)
    )
    key = "".join(
        f'<path class="line" style="--c: var(--c{i})" d="M{24 + 420 * (i % 2)} {300 + 20 * (i // 2)}h26"/>'
        f'<text class="named" x="{58 + 420 * (i % 2)}" y="{304 + 20 * (i // 2)}">{charts._text(name)}</text>'
        for i, name in enumerate(names)
    )
    height = 312 + 20 * ((len(names) + 1) // 2)
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 840 {height}" width="840" '
        f'height="{height}">\n<style>{STYLE}</style>\n{placed}\n{key}</svg>\n'
    )
    for i in range(len(names)):  # not every program that shows an SVG knows CSS variables
        drawn = drawn.replace(f"--c: var(--c{i})", f"color: {COLOURS[i % len(COLOURS)]}")
    return drawn


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("out", type=Path)
    parse.add_argument("--rows", type=int, nargs="+", default=[1000, 2000, 4000, 8000, 16000, 32000, 64000])
    parse.add_argument("--seconds", type=float, default=60)
    evaluation.options(parse)
    args = parse.parse_args()
    seen: dict[str, list[tuple[int, float, int]]] = {}
    with tempfile.TemporaryDirectory() as build:
        for name, (work, extra) in evaluation.contenders(args, build).items():
            if work is evaluation.one_by_one:
                continue
            for rows in sorted(args.rows):
                _, _, seconds, memory = evaluation.measure(work, extra, (rows // 5, rows, rows // 21, 6))
                seen.setdefault(name, []).append((rows, round(seconds, 3), memory))
                print(name, *seen[name][-1], flush=True)
                if seconds > args.seconds or memory > MEMORY:
                    break
    print(json.dumps(seen))
    args.out.write_text(page(seen), encoding="utf-8")


if __name__ == "__main__":
    main()
