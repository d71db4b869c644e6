"""Training curves from run folders, one run or several side by side."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid import charts
from reid.charts import Axis, Figure, Line, Mark, linear, percent, percent_tick, tick
from reid.errors import DataError
from reid.pages import text
from reid.plot.sheet import Sheet, grid, swatch

ABOUT, LOG = "run.json", "metrics.jsonl"  # as reid.runs writes them, which needs PyTorch
METRICS = {"mAP": "mean average precision", "rank-1": "queries whose first answer is right"}
SHOWN_APART = ("epoch", "step", "seconds", "waiting", "rate", "norm", "images/s")
_NOTE = "Where a run was validated best, there is a dot; its epoch is the one whose weights are in best.safetensors."
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """How a training run went.

    Attributes:
        name: what to call it.
        epochs: (E,) ascending, the first is 1.
        values: by name (E,), NaN where an epoch does not have it.
        settings: its configuration, flat; empty where unknown.
    """

    name: str
    epochs: Floats
    values: Mapping[str, Floats]
    settings: Mapping[str, Any]

    def best(self) -> int | None:
        """The row with the highest mAP, the first of equals; None where nothing was validated."""
        found = self.values.get("mAP")
        return None if found is None else int(np.nanargmax(found))


def read_runs(folders: Sequence[str | os.PathLike[str]]) -> list[History]:
    """Read run folders, named by what their paths do not have in common.

    Raises:
        DataError: a folder is given twice, is no run or holds no epoch yet.
    """
    paths = [Path(os.path.realpath(folder)) for folder in folders]
    if twice := [str(f) for f, path in zip(folders, paths, strict=True) if paths.count(path) > 1]:
        raise DataError(f"{twice[0]} is given more than once; give each run once")
    common = os.path.commonpath(paths) if len(paths) > 1 else str(paths[0].parent)
    return [read_run(path, os.path.relpath(path, common)) for path in paths]


def read_run(folder: Path, name: str = "") -> History:
    """Read one run folder; a last line that is cut short, as of a run at work, is left out."""
    log = folder / LOG
    if not log.is_file():
        raise DataError(f"{folder} has no {LOG}; give a folder that `reid train` wrote")
    rows: dict[int, dict[str, float]] = {}
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows[int(row["epoch"])] = {k: float(v) for k, v in row.items() if isinstance(v, int | float)}
        except (ValueError, KeyError, TypeError, OverflowError):
            if number < len(lines):
                raise DataError(f"line {number} of {log} is not one epoch as JSON; mend or remove it") from None
    if not rows:
        raise DataError(f"{log} holds no epoch; wait until the first one is done")
    epochs = sorted(rows)
    names = dict.fromkeys(key for epoch in epochs for key in rows[epoch])
    values = {key: np.array([rows[epoch].get(key, math.nan) for epoch in epochs]) for key in names}
    values = {key: np.where(np.isfinite(v), v, math.nan) for key, v in values.items()}
    known = {key: v for key, v in values.items() if not np.isnan(v).all()}
    return History(name or folder.name, np.array(epochs, dtype=np.float64) + 1, known, _settings(folder))


def _settings(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        return dict(_flat("", {**about["config"], "data": about.get("data", {}).get("sets", [])}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _flat(before: str, value: Any) -> Iterable[tuple[str, Any]]:
    """Settings within settings by one name: losses.triplet-hard.weight, augment.flip."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(f"{before}.{name}" if before else str(name), inner)
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) and "name" in v for v in value):
        yield before, [v["name"] for v in value]
        for term in value:
            yield from _flat(f"{before}.{term['name']}", {k: v for k, v in term.items() if k != "name"})
    else:
        yield before, value


class _Panel(NamedTuple):
    """One chart: its heading, the values it shows (the second in dashes), what they are, and their names."""

    heading: str
    keys: Sequence[str]
    label: str
    names: Sequence[str] = ("", "")
    share: bool = False


def sheet(runs: Sequence[History]) -> Sheet:
    """Validation, losses, distances and speed against epochs, a line for each run.

    Raises:
        DataError: no run, or more than can be told apart.
    """
    if not 0 < len(runs) <= charts.COLOURS:
        raise DataError(f"{len(runs)} runs were given; 1 to {charts.COLOURS} can be told apart in one chart")
    keys = list(dict.fromkeys(key for run in runs for key in run.values))
    sections = [
        ("Validation", "On people held out from training.", _validation(keys)),
        ("Losses", "", _losses(keys)),
        ("Pairs in a batch", "", _pairs(keys)),
        ("Schedule and speed", "", _schedule(keys)),
    ]
    drawn = [(h, about, [_figure(panel, runs) for panel in panels]) for h, about, panels in sections if panels]
    key = [run.name for run in runs] if len(runs) > 1 else []
    title = f"Training of {runs[0].name}" if len(runs) == 1 else f"{len(runs)} training runs side by side"
    summary = _said(runs[0]) if len(runs) == 1 else _winner(runs)
    return Sheet(title, summary, drawn, key, (), _table(runs) + _differences(runs), "", _NOTE)


def _validation(keys: Sequence[str]) -> list[_Panel]:
    """mAP and rank-1, of each data set where there are several."""
    places = dict.fromkeys(key.rpartition("/")[0] for key in keys if _is_metric(key))
    panels = []
    for place in sorted(places):
        for metric, about in METRICS.items():
            key = f"{place}/{metric}" if place else metric
            if key in keys:
                mean = ", mean of data sets" if metric == "mAP" and not place and len(places) > 1 else ""
                panels.append(_Panel(f"{place}: {metric}" if place else metric, [key], about + mean, share=True))
    return panels


def _losses(keys: Sequence[str]) -> list[_Panel]:
    apart = ("active/", "distance/")
    ours = [k for k in keys if k not in SHOWN_APART and not k.startswith(apart) and not _is_metric(k)]
    return [_Panel(key, [key], "mean over an epoch, before weighting") for key in ours]


def _is_metric(key: str) -> bool:
    return key.rpartition("/")[2].startswith(("rank-", "mAP", "mINP"))


def _pairs(keys: Sequence[str]) -> list[_Panel]:
    panels = []
    for key in keys:
        if key.startswith("active/"):
            name = key.removeprefix("active/")
            panels.append(_Panel(f"{name}: active", [key], "anchors whose loss is not 0", share=True))
    distances = [key for key in ("distance/negative", "distance/positive") if key in keys]
    if len(distances) == 2:
        label = "mean of pairs of two people; of one, dashed"
        panels.append(_Panel("Distances", distances, label, ("two people", "one person")))
    if "norm" in keys:
        panels.append(_Panel("Length of embeddings", ["norm"], "mean Euclidean norm"))
    return panels


def _schedule(keys: Sequence[str]) -> list[_Panel]:
    panels = [
        _Panel("Learning rate", ["rate"], "at the end of an epoch"),
        _Panel("Speed", ["images/s"], "images a second"),
    ]
    return [panel for panel in panels if panel.keys[0] in keys]


def _figure(panel: _Panel, runs: Sequence[History]) -> Figure:
    """A line for each run that has the values; what all have at an epoch is said on hover."""
    have = [(i, run) for i, run in enumerate(runs) if panel.keys[0] in run.values]
    epochs = np.unique(np.concatenate([run.epochs[~_missing(run, panel)] for _, run in have]))
    rows = [[f"{epoch:.0f}", *_cells(panel, [run for _, run in have], epoch)] for epoch in epochs]
    several = len(have) > 1 or len(panel.keys) > 1
    titles = [_title(run, name, len(runs) > 1) for _, run in have for name in panel.names[: len(panel.keys)]]
    said = [
        f"epoch {row[0]}"
        + "".join(f"\n{t}: {c}" if several else f": {c}" for t, c in zip(titles, row[1:], strict=True))
        for row in rows
    ]
    lines, carrier = [], max(have, key=lambda pair: np.count_nonzero(~_missing(pair[1], panel)))[0]
    for i, run in have:
        for dashed, key in enumerate(panel.keys):
            known = ~np.isnan(run.values[key]) if key in run.values else np.zeros(len(run.epochs), bool)
            x, y = run.epochs[known], run.values[key][known] if known.any() else np.empty(0)
            says = [said[int(np.searchsorted(epochs, at))] for at in x] if i == carrier and not dashed else []
            if len(x):
                lines.append(
                    Line(x, y, charts.colour(i), says, _marks(panel, run, x, y, dashed, len(runs)), bool(dashed))
                )
    last = max(2.0, max(run.epochs[-1] for run in runs))
    drawn = charts.line_chart(lines, _epochs(last), _upright(panel, lines), f"{panel.heading} by epoch")
    head = ["epoch", *(title or panel.heading for title in titles)]
    return Figure(panel.heading, "", drawn, head, rows)


def _missing(run: History, panel: _Panel) -> NDArray[np.bool_]:
    return np.isnan(run.values[panel.keys[0]])


def _cells(panel: _Panel, runs: Sequence[History], epoch: float) -> list[str]:
    """What each run has at an epoch, key by key."""
    cells = []
    for run in runs:
        at = np.flatnonzero(run.epochs == epoch)
        for key in panel.keys:
            value = run.values[key][at[0]] if len(at) and key in run.values else math.nan
            said = percent(value, 2) if panel.share else tick(float(f"{value:.5g}")) if not math.isnan(value) else ""
            cells.append("–" if math.isnan(value) else said)
    return cells


def _title(run: History, name: str, several: bool) -> str:
    """What to call a line: the run where there are several, and what it shows where a run has two."""
    return ", ".join(word for word in (run.name if several else "", name) if word)


def _marks(panel: _Panel, run: History, x: Floats, y: Floats, dashed: int, runs: int) -> list[Mark]:
    """The best validation of each run, and what the two lines of a single run are."""
    if panel.share and not panel.keys[0].startswith("active/"):
        best = int(y.argmax())
        return [Mark(float(x[best]), float(y[best]), f"{100 * y[best]:.1f}" if runs == 1 else "")]
    name = panel.names[dashed]
    return [Mark(float(x[-1]), float(y[-1]), name)] if name and runs == 1 else []


def _epochs(last: float) -> Axis:
    """From 1 to the last, marked at round numbers."""
    axis = linear("epoch", 1, last, tick)
    return Axis("epoch", 1, last, [1.0, *(t for t in axis.ticks if t >= 1 + 0.08 * last and t == int(t))], tick)


def _upright(panel: _Panel, lines: Sequence[Line]) -> Axis:
    """From 0 for what is counted from there, closer around shares, so that small steps can be seen."""
    values = np.concatenate([line.y for line in lines])
    low, high = float(values.min()), float(values.max())
    if panel.share:
        low, high = max(0.0, math.floor(10 * low - 0.2) / 10), min(1.0, math.ceil(10 * high + 0.2) / 10)
        return linear(panel.label, low, max(high, low + 0.1), percent_tick)
    low = min(0.0, 1.05 * low)
    return linear(panel.label, low, low + 1 if high <= low else high + 0.06 * (high - low), tick)


def _said(run: History) -> str:
    """One run in a sentence."""
    done = f"{len(run.epochs):,} {'epoch' if len(run.epochs) == 1 else 'epochs'}"
    best = run.best()
    if best is None:
        return f"{done}, nothing validated yet."
    found = [f"{m} {percent(run.values[m][best])}" for m in METRICS if m in run.values]
    return f"{done}; the best validation, {', '.join(found)}, came after epoch {run.epochs[best]:.0f}."


def _winner(runs: Sequence[History]) -> str:
    best = [(float(run.values["mAP"][at]), run) for run in runs if (at := run.best()) is not None]
    if not best:
        return "Nothing validated yet."
    value, run = max(best, key=lambda pair: pair[0])
    return f"Highest validation mAP: {percent(value)}, by {run.name}. Runs with other people held out do not compare."


def _table(runs: Sequence[History]) -> str:
    """What became of each run."""
    rows = []
    for i, run in enumerate(runs):
        best, seconds = run.best(), run.values.get("seconds")
        metrics = [
            percent(run.values[m][best]) if best is not None and m in run.values and run.values[m][best] >= 0 else "–"
            for m in METRICS
        ]
        after = "–" if best is None else f"{run.epochs[best]:.0f}"
        took = "–" if seconds is None else _duration(float(np.nansum(seconds)))
        cells = [str(run.settings.get("net", "–")), f"{len(run.epochs):,}", *metrics, after, took]
        rows.append((f"{swatch(i) if len(runs) > 1 else ''}{text(run.name)}", cells))
    return grid(["run", "network", "epochs", "best mAP", "rank-1 there", "after epoch", "time"], rows)


def _differences(runs: Sequence[History]) -> str:
    """Settings that are not the same in all runs."""
    if len(runs) < 2 or not all(run.settings for run in runs):
        return ""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    said = {name: [_setting(run.settings.get(name)) for run in runs] for name in names}
    rows = [(text(name), values) for name, values in said.items() if len(set(values)) > 1]
    heads = ["setting", *(run.name for run in runs)]
    if not rows:
        return '<p class="note">All settings are the same.</p>'
    return f"<details><summary>{len(rows)} settings that differ</summary>{grid(heads, rows)}</details>"


def _setting(value: Any) -> str:
    if value is None or value in ("", [], [""], {}):
        return "–"
    if isinstance(value, list):
        return ", ".join(" ".join(map(str, v.values())) if isinstance(v, Mapping) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    """A time as people say it.

    >>> _duration(42), _duration(400), _duration(9000)
    ('42 s', '6.7 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
