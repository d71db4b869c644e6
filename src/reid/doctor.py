"""The doctor: looks at a source of crops and says in words what it is, what it is fit for and what is wrong with it."""

from __future__ import annotations

import json
import os
import shlex
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from reid import data
from reid.data import Source, alike, findings
from reid.data.findings import Finding
from reid.data.scan import THUMB, Scan, scan
from reid.data.splits import KINDS, PARTS, by_person, evaluable, is_close, moment, propose_splits, step
from reid.errors import DataError
from reid.types import Crop
from reid.wording import many

__all__ = ["Diagnosis", "Finding", "Spread", "examine", "propose_splits"]

WIDTH = 100
NO_BREAK = "\N{NO-BREAK SPACE}"
FEWEST, CAMERAS, FEW = 5, 12, 20


@dataclass(frozen=True, slots=True)
class Spread:
    """The smallest, the middle and the largest of some numbers."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Of these numbers; None where there are none."""
        return cls(float(min(values)), float(np.median(values)), float(max(values))) if len(values) else None

    def words(self, unit: str = "") -> str:
        """For a reader: one number where all are the same."""
        if self.least == self.most:
            return f"{self.least:,.6g}{unit}"
        return f"{self.least:,.6g} to {self.most:,.6g}{unit} (median {self.median:,.6g})"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a source of crops holds.

    Attributes:
        source: as it was given, as a shell takes it, with the layout where one was asked for.
        layout, why: how it was read, and why so.
        verdict: the short answer, in two or three sentences.
        crops: all of them.
        people: crops by person; distractors, junk and the nameless left out.
        cameras: crops by camera, over all crops that have one.
        roles: crops by role, of those roles that occur.
        tracklets: how many different ones.
        seconds: the first and the last time, None where no times are known.
        frames: the first and the last frame number, None where there are times or no frames.
        width, height: of the pictures that can be read, None where they were not looked at.
        splits: crops by split, where the source has splits.
        proposed: for each kind of split that is possible, (crops, people) by its parts; none where the source has
            several splits.
        findings: problems first.
    """

    source: str
    layout: str
    why: str
    verdict: str
    crops: int
    people: Mapping[str, int]
    cameras: Mapping[str, int]
    roles: Mapping[str, int]
    tracklets: int
    seconds: tuple[float, float] | None
    frames: tuple[int, int] | None
    width: Spread | None
    height: Spread | None
    splits: Mapping[str, int]
    proposed: Mapping[str, Mapping[str, tuple[int, int]]]
    findings: tuple[Finding, ...]

    def text(self) -> str:
        """The whole diagnosis for a reader, in lines of about 100 characters."""
        parts = ["\n".join(_wrapped(self.verdict)), "\n".join(_counts(self))]
        parts += ["\n".join(_finding(found)) for found in self.findings]
        if self.proposed:
            parts.append("\n".join(_proposals(self)))
        return "\n\n".join(parts).encode("utf-8", "backslashreplace").decode()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def examine(
    source: Source, layout: str | None = None, pixels: bool = True, progress: Callable[[int, int], None] | None = None
) -> Diagnosis:
    """Look at everything that a source holds.

    Args:
        source: whatever `reid.data.read` takes.
        layout: how to read it, where that should not be recognised.
        pixels: also read every picture, for sizes, damage, copies and the measured leak of a random split.
        progress: called with (pictures read, all pictures) now and then.

    Raises:
        DataError: there is nothing to read, or it cannot be understood.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    layouts = [_layout(one, layout) for one in sources]
    crops = data.read(sources, layout=layout)
    splits = Counter(crop.extra["split"] for crop in crops if "split" in crop.extra)
    proposed = {} if len(splits) > 1 else _propose(crops)
    gap = step(crops)
    leak = gap if gap is not None and is_close(gap) else None
    wanted = findings.thumbs_wanted(crops) if leak and pixels else np.empty(0, np.int64)
    looked = scan([crop.path for crop in crops], wanted.tolist(), progress) if pixels else None
    prefix = f"{layout}:" if layout else ""
    name, words = _namer(crops, sources), " ".join(shlex.quote(prefix + os.fspath(one)) for one in sources)
    found = [*_by_labels(crops, name, words, "time" in proposed), *(_by_pixels(looked, crops, name) if looked else ())]
    if leak:
        seen = looked.readable[wanted] if looked else np.empty(0, bool)
        thumbs = looked.thumbs[seen] if looked else np.empty((0, *THUMB, 3), np.uint8)
        found.append(findings.consecutive(crops, wanted[seen], thumbs, leak))
    sizes = looked.sizes[looked.readable] if looked else np.empty((0, 2), np.int32)
    people = by_person(crops)
    times = [crop.time for crop in crops if crop.time is not None]
    frames = [int(when.value) for crop in crops if (when := moment(crop)) and when.is_frame]
    diagnosis = Diagnosis(
        source=words,
        layout=", ".join(dict.fromkeys(chosen for chosen, _ in layouts)),
        why=layouts[0][1] if len(layouts) == 1 else f"{len(layouts):,} sources were given",
        verdict="",
        crops=len(crops),
        people={pid: len(theirs) for pid, theirs in people.items()},
        cameras=dict(sorted(Counter(crop.camera for crop in crops if crop.camera is not None).items())),
        roles=dict(Counter(crop.role for crop in crops)),
        tracklets=len({crop.tracklet for crop in crops} - {None}),
        seconds=(min(times), max(times)) if times else None,
        frames=(min(frames), max(frames)) if frames and not times else None,
        width=Spread.of(sizes[:, 0].tolist()),
        height=Spread.of(sizes[:, 1].tolist()),
        splits=dict(splits),
        proposed=proposed,
        findings=tuple(sorted(found, key=lambda one: one.level != "problem")),
    )
    return replace(diagnosis, verdict=_verdict(diagnosis, sum(map(evaluable, people.values()))))


def _by_labels(crops: Sequence[Crop], name: findings.Name, source: str, timed: bool) -> Iterator[Finding]:
    """What can be seen from what is known of the crops."""
    checks = (
        findings.nobody(crops, source),
        findings.not_evaluable(crops, timed, source),
        findings.queries(crops, name),
        findings.in_both(crops),
        findings.listed_twice(crops),
    )
    yield from (found for found in checks if found)


def _by_pixels(looked: Scan, crops: Sequence[Crop], name: findings.Name) -> Iterator[Finding]:
    """What can be seen from the files."""
    once = np.unique(np.array([crop.path for crop in crops], dtype=object), return_index=True)[1]
    readable = np.intersect1d(once, np.flatnonzero(looked.readable))
    groups = alike.copies(looked.digests, readable)
    spare = np.concatenate([group[1:] for group in groups]) if groups else np.empty(0, np.int64)
    telling = np.setdiff1d(readable, np.concatenate([spare, np.flatnonzero(looked.blank)]))
    pairs, complete = alike.near_pairs(looked.hashes, telling)
    checks = (
        findings.unreadable(looked, name),
        findings.whole_scenes(looked),
        findings.blank(looked, name),
        findings.exact_copies(groups, crops, name),
        findings.near_copies(pairs, complete, crops, name),
    )
    yield from (found for found in checks if found)


def _namer(crops: Sequence[Crop], sources: Sequence[str | Path]) -> findings.Name:
    """Names of rows for a reader: the path below the source, where there is one source."""
    root = str(data.locate(sources[0])[0]) if len(sources) == 1 else ""
    return lambda row: crops[row].path.removeprefix(root.rstrip("/") + "/")


def _layout(source: str | Path, layout: str | None) -> tuple[str, str]:
    root, given = data.locate(source)
    asked = layout or given
    return (asked, "you asked for it") if asked else data.recognise(root)


def _propose(crops: Sequence[Crop]) -> dict[str, dict[str, tuple[int, int]]]:
    """(crops, people) by part, of each kind of split that is possible."""
    proposed: dict[str, dict[str, tuple[int, int]]] = {}
    for kind in KINDS:
        try:
            splits = propose_splits(crops, kind)
        except DataError:
            continue
        pids: dict[str, list[str | None]] = {part: [] for part in PARTS}
        for crop in crops:
            if part := splits.get(crop.path):
                pids[part].append(crop.pid)
        proposed[kind] = {part: (len(theirs), len(set(theirs) - {None})) for part, theirs in pids.items() if theirs}
    return proposed


def _verdict(found: Diagnosis, testable: int) -> str:
    people = len(found.people)
    persons = sum(found.people.values())
    kinds = {finding.kind for finding in found.findings}
    if not people:
        text = f"{many(found.crops, 'picture')}, nobody named. They can be embedded and searched; "
        return text + "training and evaluation need names."
    seen_by = f" by {many(len(found.cameras), 'camera')}" if found.cameras else ", cameras unknown"
    text = f"{many(persons, 'crop')} of {many(people, 'person', 'people')}{seen_by}."
    pairs = sum(count > 1 for count in found.people.values())
    if people < 2 or not pairs:
        lack = "one person only" if people < 2 else "no person in more than one crop"
        return f"{text} With {lack} they can be searched, but not trained on or evaluated."
    text += " Good to train on" if people >= FEW else " Enough to try training on"
    if "query" not in found.splits and (not testable or kinds & {"no-cameras", "one-camera"}):
        text += "; matches across cameras cannot be evaluated"
    elif "splits" in kinds:
        text += "; its splits cannot be evaluated"
    elif any(one.kind == "queries-without-match" and one.level == "problem" for one in found.findings):
        text += "; but no query has a match that counts"
    elif "query" in found.splits:
        text += "; queries are set apart to evaluate"
    else:
        whom = f"all {people:,}" if testable == people else f"{testable:,} of the {people:,}"
        text += f"; {whom} people can be evaluated across cameras"
    if "consecutive-frames" in kinds:
        text += ", and a random split would leak"
    bad = next((finding.count for finding in found.findings if finding.kind == "unreadable"), 0)
    return text + (f". {many(bad, 'picture')} cannot be read." if bad else ".")


def _counts(found: Diagnosis) -> Iterator[str]:
    yield from _row("layout", f"{found.layout}, because {found.why}")
    if found.people:
        sizes = Spread.of(list(found.people.values()))
        assert sizes is not None
        text = f"{len(found.people):,}, with {sizes.words(' crops each')}"
        if sizes.least < sizes.most and len(found.people) > 1:
            poorest = sorted(found.people.items(), key=lambda item: (item[1], item[0]))[:FEWEST]
            text += "; fewest: " + ", ".join(f"{pid}{NO_BREAK}({count:,})" for pid, count in poorest)
        yield from _row("people", text)
    if found.cameras:
        listed = [f"{camera}{NO_BREAK}({count:,})" for camera, count in found.cameras.items()]
        more = f" and {len(listed) - CAMERAS:,} more" if len(listed) > CAMERAS else ""
        yield from _row("cameras", f"{len(listed)}: {', '.join(listed[:CAMERAS])}{more}")
    others = [
        many(found.roles[role], word)
        for role, word in (("distractor", "distractor"), ("junk", "junk crop"))
        if found.roles.get(role)
    ]
    if others:
        yield from _row("others", ", ".join(others))
    if found.tracklets:
        yield from _row("tracklets", f"{found.tracklets:,}")
    if found.seconds:
        yield from _row("time", f"{_clock(found.seconds[1] - found.seconds[0])} from the first crop to the last")
    if found.frames:
        yield from _row("frames", f"{found.frames[0]:,} to {found.frames[1]:,}")
    if found.width and found.height:
        one = found.width.least == found.width.most and found.height.least == found.height.most
        size = f"{found.width.words()}×{found.height.words()} pixels, all of them"
        yield from _row("size", size if one else f"width {found.width.words()}, height {found.height.words()} pixels")
    if found.splits:
        yield from _row("splits", ", ".join(f"{split} ({count:,})" for split, count in found.splits.items()))


def _clock(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> _clock(42.04), _clock(754), _clock(12211), _clock(200_000)
    ('42 s', '12 min 34 s', '3 h 23 min', '2 d 7 h')
    """
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    whole = round(seconds)
    parts: list[str] = []
    for unit, length in units:
        if whole >= length and len(parts) < 2:
            parts.append(f"{whole // length} {unit}")
            whole %= length
    return " ".join(parts) or "0 s"


def _finding(finding: Finding) -> Iterator[str]:
    yield from _wrapped(finding.text, "! " if finding.level == "problem" else "· ", "  ")
    for example in finding.examples:
        yield from _wrapped(example, "    ", "      ")
    yield from _wrapped(finding.todo, "  → ", "    ")
    yield from (f"    {command}" for command in finding.commands)


def _proposals(found: Diagnosis) -> Iterator[str]:
    yield "Splits that do not leak, with a fifth held out:"
    if people := found.proposed.get("people"):
        (train, known), (queries, others), (gallery, _) = (people[part] for part in PARTS)
        yield from _wrapped(
            f"{many(train, 'crop')} of {many(known, 'person', 'people')} to train on; of {others:,} others, "
            f"{many(queries, 'query', 'queries')} and a gallery of {gallery:,}",
            "  people  ",
            " " * 10,
        )
    if times := found.proposed.get("time"):
        train, queries = times["train"][0], times["query"][0]
        yield f"  time    {many(train, 'earlier crop')} to train on and to search, {queries:,} later ones as queries"
    kind = "time" if times and len(found.cameras) < 2 else "people"
    yield f"  reid show {found.source} --write-split {kind} -o splits.csv"


def _row(name: str, text: str) -> Iterator[str]:
    yield from _wrapped(text, f"{name:<10}", " " * 10)


def _wrapped(text: str, first: str = "", later: str = "") -> list[str]:
    """Lines of at most 100 characters, unbroken where the text has a no-break space."""
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(NO_BREAK, " ") for line in lines]
