"""Who is it: against scikit-learn, against plain counts, and on drawn people."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from reid import files
from reid.errors import DataError, MissingExtra, ModelError, ShapeError
from reid.identify import KINDS, Calibration, Identifier, Learnt
from reid.identify.calibration import calibrate, even
from reid.identify.kinds import LOGISTIC_C, SVM_C
from reid.identify.queries import grouped
from reid.identify.trial import rotations
from reid.street import draw_street
from reid.types import Crop, Embeddings
from tests.conftest import Run
from tests.reference import identify as reference


def drawn(people: int, crops: int = 4, seed: int = 0, scale: float = 0.5, first: int = 0, dim: int = 16) -> Embeddings:
    """People around centres of their own, half of their crops by either camera, one tracklet a camera."""
    centres = np.random.default_rng(99).normal(size=(400, dim))
    rng = np.random.default_rng(seed)
    rows, vectors = [], []
    for p in range(first, first + people):
        for i in range(crops):
            camera = "a" if i < crops / 2 else "b"
            rows.append(Crop(f"{seed}/{p}/{i}.jpg", f"p{p:03}", camera, tracklet=f"{camera}{p}"))
            vectors.append(centres[p] + rng.normal(scale=scale, size=dim))
    return Embeddings(np.array(vectors, dtype=np.float32), tuple(rows), "drawn")


def names(answers: list[Any]) -> list[str | None]:
    return [a.pid for a in answers]


@pytest.mark.parametrize("kind", KINDS)
def test_finds_enrolled_people_and_leaves_strangers_alone(kind: str) -> None:
    enrolled, known, strange = drawn(30, 6, dim=48), drawn(30, 2, 1, dim=48), drawn(200, 2, 2, first=30, dim=48)
    made = Identifier(kind).fit(enrolled)
    assert made.people_ == tuple(f"p{i:03}" for i in range(30))
    truth = [c.pid for c in known.crops]
    assert np.mean([a == b for a, b in zip(names(made.identify(known)), truth, strict=True)]) > 0.95
    alarms = np.mean([a is not None for a in names(made.identify(strange, fpir=0.1))])
    assert 0.005 < alarms < 0.2  # 10 % of 30 people is three, one of whom is more than can be counted on
    found = names(made.identify(known, fpir=0.1))
    assert np.mean([a == b for a, b in zip(found, truth, strict=True)]) > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities(kind: str) -> None:
    made = Identifier(kind).fit(drawn(30, 6, scale=0.8, dim=48))
    query = drawn(60, 8, seed=1, scale=0.8, dim=48)
    for fpir in (None, 0.1):
        answers = made.identify(query, fpir=fpir, k=30)
        for a in answers:
            chances = [c.probability for c in a.candidates]
            total = sum(p for p in chances if p is not None)
            assert chances == sorted(chances, reverse=True)
            assert total == pytest.approx(1 if a.enrolled is None else a.enrolled, abs=1e-6)
            assert (a.enrolled is None) == (a.threshold is None) == (fpir is None)
    known = np.array([a.enrolled for a in answers])
    truth = np.array([c.pid in made.people_ for c in query.crops])
    assert known[truth].mean() > known[~truth].mean() + 0.3
    assert abs(known.mean() - 0.5) < 0.1  # half of the searches are for people enrolled


def test_nearest_equals_a_plain_loop_and_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

    enrolled, query = drawn(9, 5, scale=2.0), drawn(20, 3, seed=1, scale=2.0)
    people = [str(c.pid) for c in enrolled.crops]
    made = Identifier("nearest").fit(enrolled)
    found = made.identify(query)
    for vector, answer in zip(query.vectors, found, strict=True):
        pid, distance = reference.nearest_person(vector, enrolled.vectors, people)
        assert (answer.pid, answer.candidates[0].distance) == (pid, pytest.approx(distance, rel=1e-4))
    assert names(found) == KNeighborsClassifier(1).fit(enrolled.vectors, people).predict(query.vectors).tolist()
    centroids = NearestCentroid().fit(enrolled.vectors, people).predict(query.vectors)
    assert names(Identifier("mean").fit(enrolled).identify(query)) == centroids.tolist()


@pytest.mark.parametrize("people", [2, 3, 8])
def test_planes_equal_scikit_learn(people: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    enrolled, query = drawn(people, 5, scale=2.0), drawn(20, 3, seed=1, scale=2.0)
    owners = [str(c.pid) for c in enrolled.crops]
    scale = np.linalg.norm(enrolled.vectors, axis=1).mean()
    for kind, theirs in {
        "svm": LinearSVC(C=SVM_C, class_weight="balanced", random_state=0, max_iter=10_000),
        "logistic": LogisticRegression(C=LOGISTIC_C, class_weight="balanced", max_iter=10_000),
    }.items():
        theirs.fit(enrolled.vectors / scale, owners)
        made = Identifier(kind).fit(enrolled)
        assert names(made.identify(query)) == theirs.predict(query.vectors / scale).tolist()
        if people > 2:
            decided = theirs.decision_function(query.vectors / scale)
            np.testing.assert_allclose(made.distances(query), -decided, atol=1e-3)


def test_order_of_crops_does_not_matter() -> None:
    enrolled, query = drawn(6, 4), drawn(8, 2, seed=1)
    order = np.random.default_rng(0).permutation(len(enrolled))
    for kind in ("nearest", "mean"):
        one, two = Identifier(kind).fit(enrolled), Identifier(kind).fit(enrolled[order])
        np.testing.assert_allclose(one.distances(query), two.distances(query), rtol=1e-5)
        assert one.threshold(0.2).distance == pytest.approx(two.threshold(0.2).distance, rel=1e-5)


SEARCHES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=30)


@given(searches=SEARCHES, rate=st.fractions(Fraction(1, 100), Fraction(99, 100)))
@settings(max_examples=200, deadline=None)
def test_threshold_equals_plain_counts(searches: list[tuple[int, int]], rate: Fraction) -> None:
    values, who = [d / 4 for d, _ in searches], [p for _, p in searches]
    made = calibrate(np.array(values, dtype=np.float32), np.array(who), 1.0)
    found = made.threshold(float(rate))
    best = reference.highest(values, who, rate)
    assert found.reached == pytest.approx(float(best), abs=1e-9)
    met = reference.expected(values, who, found.distance)
    assert met == best if best else not reference.fpir(values, who, found.distance)
    above = float(np.nextafter(np.float32(found.distance), np.float32(np.inf)))
    assert reference.expected(values, who, above) > rate


def test_the_rate_asked_for_is_kept_on_average() -> None:
    """Of people drawn from wherever; without one person more it is passed by a fifth with 20, and by more for less."""
    rng, met = np.random.default_rng(0), []
    for _ in range(2000):
        near = rng.normal(size=20).astype(np.float32)
        met.append(norm.cdf(calibrate(near, np.arange(20), 1.0).threshold(0.2).distance))
    assert np.mean(met) == pytest.approx(4 / 21, abs=0.01)


def test_impostors_that_are_stated_set_the_threshold() -> None:
    enrolled, impostors = drawn(10, 4), drawn(60, 4, seed=3, first=50)
    made = Identifier("nearest").fit(enrolled, impostors)
    limit = made.threshold(0.05)
    near = made.distances(impostors).min(axis=1).tolist()
    who = [c.pid for c in impostors.crops]
    assert limit.reached == pytest.approx(float(reference.highest(near, who, Fraction(5, 100))), abs=1e-9)
    answers = made.identify(impostors, fpir=0.05)
    weights = even(np.array([int(str(c.pid)[1:]) for c in impostors.crops]))
    alarms = sum(w for w, a in zip(weights, answers, strict=True) if a.pid)
    assert (60 * alarms + 1) / 61 == pytest.approx(limit.reached, abs=1e-9)
    unnamed = Embeddings(impostors.vectors, tuple(replace(c, pid=None) for c in impostors.crops), "drawn")
    assert Identifier("nearest").fit(enrolled, unnamed).threshold(0.05).reached == pytest.approx(0.05, abs=1 / 240)


def test_several_crops_are_one_query() -> None:
    enrolled, query = drawn(20, 6, scale=2.0), drawn(20, 12, seed=1, scale=2.0)
    made = Identifier("mean").fit(enrolled)
    one, some = made.identify(query), made.identify(query, together="tracklet")
    assert [len(a.rows) for a in some] == [6] * 40
    for answer in some:
        mean = query.vectors[list(answer.rows)].mean(axis=0)[None]
        assert answer.candidates[0].distance == pytest.approx(made.learnt_.distances(mean).min(), rel=1e-5)

    def right(answers: list[Any]) -> float:
        return float(np.mean([a.pid == query.crops[a.rows[0]].pid for a in answers]))

    assert right(some) > right(one)
    (whole,) = made.identify(query[:12], together="all")
    assert (whole.pid, whole.rows) == ("p000", tuple(range(12)))
    assert made.threshold(0.1, "crop") != made.threshold(0.1, "several")
    assert [a.rows for a in made.identify(query)] == [(i,) for i in range(240)]


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=8))
def test_crops_without_a_tracklet_stay_alone(tracklets: list[str | None]) -> None:
    crops = [Crop(f"{i}", tracklet=t) for i, t in enumerate(tracklets)]
    groups = grouped(crops, "tracklet")
    for i, a in enumerate(tracklets):
        for j, b in enumerate(tracklets):
            assert (groups[i] == groups[j]) == (i == j or (a is not None and a == b))
    firsts = [int(groups[i]) for i in range(len(groups)) if groups[i] not in groups[:i]]
    assert firsts == list(range(len(firsts)))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, "a", "b", "c"])), min_size=1, max_size=30))
def test_nobody_is_left_out_altogether_and_each_view_once(seen: list[tuple[int, str | None]]) -> None:
    crops = [Crop(f"{i}", str(p), camera) for i, (p, camera) in enumerate(seen)]
    owners = np.unique([p for p, _ in seen], return_inverse=True)[1]
    out = list(rotations(crops, owners))
    rows = [i for part in out for i in part.tolist()]
    assert len(rows) == len(set(rows))
    several = {p for p in owners.tolist() if (owners == p).sum() > 1}
    assert {int(owners[i]) for i in rows} == several
    for part in out:
        kept = np.setdiff1d(np.arange(len(owners)), part)
        assert set(owners[kept].tolist()) == set(owners.tolist())
        left = {(int(owners[i]), crops[i].camera) for i in part}
        for p in {p for p, _ in left}:
            cameras = {c.camera for c, o in zip(crops, owners, strict=True) if o == p and c.camera}
            if len(cameras) > 1:
                assert not left & {(p, crops[i].camera) for i in kept if owners[i] == p}


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read_back(kind: str, tmp_path: Path) -> None:
    made, query = Identifier(kind).fit(drawn(12, 4)), drawn(15, 3, seed=1)
    made.save(tmp_path / "known.people")
    again = Identifier.load(tmp_path / "known.people")
    assert repr(again) == repr(made)
    assert again.across_ == made.across_ == 1
    for together in ("crop", "tracklet", "all"):
        assert again.identify(query, 0.1, together) == made.identify(query, 0.1, together)  # type: ignore[arg-type]
    again.save(tmp_path / "again.people")
    assert Identifier.load(tmp_path / "again.people").identify(query) == made.identify(query)
    assert b"pickle" not in (tmp_path / "known.people").read_bytes()


def test_identifying_from_a_file_needs_no_scikit_learn(tmp_path: Path) -> None:
    Identifier("svm").fit(drawn(6, 4)).save(tmp_path / "known.people")
    files.save(drawn(6, 1, seed=1), tmp_path / "query.npz")
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from reid import files; from reid.identify import Identifier\n"
        f"made = Identifier.load({str(tmp_path / 'known.people')!r})\n"
        f"print([a.pid for a in made.identify(files.load({str(tmp_path / 'query.npz')!r}))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "p003" in done.stdout


def test_missing_scikit_learn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(MissingExtra, match=r"pip install 'reid\[identify\]'"):
        Identifier("svm").fit(drawn(5))


def rewritten(path: Path, **changes: Any) -> Path:
    """An identifier's file with parts replaced, left out (None), or its JSON changed by a function."""
    with np.load(path) as file:
        parts = {name: file[name] for name in file.files}
    head = json.loads(parts["about"].tobytes())
    if change := changes.pop("about", None):
        change(head)
    parts |= {"about": np.frombuffer(json.dumps(head).encode(), np.uint8)} | changes
    out = path.with_name("changed.people")
    with open(out, "wb") as file:
        np.savez(file, **{name: part for name, part in parts.items() if part is not None})
    return out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": None}, "no 'points'"),
        ({"points": np.full((8, 16), np.nan, np.float32)}, "not finite"),
        ({"points": np.zeros((3, 16), np.float32)}, "points are"),
        ({"points": np.zeros((8, 16))}, "float64"),
        ({"owners": np.arange(8)[::-1].copy()}, "ascend"),
        ({"owners": np.arange(8) + 1}, "ascend"),
        ({"owners": np.repeat(np.arange(4), 2)}, "8 people and has learnt 4"),
        ({"offsets": np.zeros(3, np.float32)}, "offsets are"),
        ({"crop-strangers": None}, "no 'crop-strangers'"),
        ({"crop-shares": np.array([2.0])}, "both must be"),
        ({"evil": np.zeros(1)}, "holds 'evil.npy'"),
        ({"about": lambda head: head.update(version=2)}, "not 'reid identifier' 1"),
        ({"about": lambda head: head.update(kind="oracle")}, "kind 'oracle'; kinds are"),
        ({"about": lambda head: head.update(people=["a"] * 8)}, "each once"),
        ({"about": lambda head: head["crop"].update(temperature="hot")}, "not a number"),
        ({"about": lambda head: head["crop"].update(temperature=-1)}, "temperature"),
        ({"about": lambda head: head["crop"].update(slope=None)}, "three finite numbers or none"),
        ({"about": lambda head: head.pop("model")}, "no 'model'"),
        ({"about": lambda head: head.update(across=2)}, "across cameras is 2"),
    ],
)
def test_damaged_files_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    Identifier("mean").fit(drawn(8, 4)).save(tmp_path / "known.people")
    with pytest.raises(DataError, match=said) as told:
        Identifier.load(rewritten(tmp_path / "known.people", **changes))
    assert "changed.people" in str(told.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.people"
    Identifier("mean").fit(drawn(4)).save(path)
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable identifier"):
            Identifier.load(path)
    with pytest.raises(DataError, match="does not exist"):
        Identifier.load(tmp_path / "missing.people")
    files.save(drawn(4), tmp_path / "e.npz")
    with pytest.raises(DataError, match=r"which no identifier does"):
        Identifier.load(tmp_path / "e.npz")
    np.savez(tmp_path / "o.npz", points=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="not a readable identifier"):
        Identifier.load(tmp_path / "o.npz")


def test_a_header_that_claims_too_much_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "huge.people"
    header = str({"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 512)}).encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("points.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="does not fit its place"):
        Identifier.load(path)


def test_refusals() -> None:
    made, query = Identifier("mean").fit(drawn(5)), drawn(3, seed=1)
    other = Embeddings(query.vectors, query.crops, "other")
    nameless = Embeddings(query.vectors, tuple(replace(c, pid=None) for c in query.crops), "drawn")
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (DataError, "it can be nearest, mean, svm, logistic", lambda: Identifier("forest")),
        (DataError, "nobody is enrolled yet", lambda: Identifier().identify(query)),
        (DataError, "nobody is enrolled yet", lambda: Identifier().save("x")),
        (DataError, "nobody is enrolled yet", lambda: Identifier().threshold(0.1)),
        (DataError, "name a person: none of 12", lambda: Identifier().fit(nameless)),
        (ModelError, "the query came from model other, the people enrolled from drawn", lambda: made.identify(other)),
        (ModelError, "the impostors came from model other", lambda: Identifier().fit(drawn(5), other)),
        (DataError, "impostors who are enrolled: 3, such as p000", lambda: Identifier().fit(drawn(5), query)),
        (DataError, "must lie between 0 and 1", lambda: made.threshold(0)),
        (DataError, "must lie between 0 and 1", lambda: made.identify(query, fpir=1.0)),
        (DataError, "k is 0; ask for at least 1 candidate$", lambda: made.identify(query, k=0)),
        (
            DataError,
            "together is 'person'; it can be crop, tracklet, all$",
            lambda: made.identify(query, together="person"),
        ),  # type: ignore[arg-type]
        (DataError, "people enrolled: 1, too few", lambda: Identifier().fit(drawn(1)).identify(query, fpir=0.1)),
        (DataError, "an SVM tells one from others", lambda: Identifier("svm").fit(drawn(1))),
        (ShapeError, "both must be", lambda: Calibration(np.zeros(2, np.float32), np.zeros(3))),
        (ShapeError, "ascend from 0", lambda: Learnt(np.zeros((2, 3), np.float32), np.array([0, 2]))),
    ]
    for kind, said, call in cases:
        with pytest.raises(kind, match=said):
            call()


def test_little_to_learn_from() -> None:
    alone = Identifier("nearest").fit(drawn(1))
    assert names(alone.identify(drawn(1, 1, seed=1))) == ["p000"]
    assert alone.identify(drawn(1, 1, seed=1))[0].candidates[0].probability is None
    once = Identifier("mean").fit(drawn(5, 1))
    (answer,) = once.identify(drawn(1, 1, seed=1), fpir=0.5)
    assert (answer.enrolled, answer.candidates[0].probability) == (None, None)
    assert once.threshold(0.001).reached == 0
    assert once.identify(drawn(5, 1, seed=1)[[]]) == []
    same = Embeddings(np.ones((8, 4), np.float32), drawn(4, 2).crops, "drawn")
    assert names(Identifier("mean").fit(same).identify(same, fpir=0.1)) == [None] * 8


def test_command_on_a_street(run: Run, tmp_path: Path, model: Path) -> None:
    draw_street(tmp_path / "street", people=8)
    known, query = tmp_path / "known.people", tmp_path / "street" / "crops" / "c1t001_1.jpg"
    code, out, err = run("identify", tmp_path / "street", "--save", known, "--model", model)
    assert (code, err) == (0, "")
    assert f"Wrote {known}: 8 people by mean" in out
    code, out, _ = run("identify", query, known, "--model", model)
    assert (code, out.startswith(f"{query}: p0")) == (0, True)
    assert "Each is taken for one of the 8 who are enrolled, the nearest; --open 0.01 lets it be nobody." in out
    code, out, _ = run("identify", tmp_path / "street", known, "--open", "0.2", "--together", "tracklet", "--json")
    assert code == 2  # the default model is another one
    code, out, _ = run(
        *("identify", tmp_path / "street", known, "--open", "0.2", "--together", "tracklet", "--json", "--model", model)
    )
    told = json.loads(out)
    assert (code, told["people"], told["kind"]) == (0, 8, "mean")
    assert all(len(a["crops"]) == 4 for a in told["answers"])
    code, _, err = run("identify", query, known, "--together", "tracklet", "--model", model)
    assert (code, "no crop of the query names its tracklet" in err) == (2, True)
    code, out, _ = run("identify", tmp_path / "street", known, "--open", "0.001", "--model", model)
    assert "just below the nearest stranger: a rate of 0.001 cannot be shown with so few strangers" in out
    assert "taken for one of" not in out
    assert "queries whose person is named" in out


def test_command_says_when_one_camera_is_all_there_is(run: Run, tmp_path: Path) -> None:
    made = drawn(6, 8)
    files.save(made[[i for i, c in enumerate(made.crops) if c.camera == "a"]], tmp_path / "one.npz")
    files.save(made, tmp_path / "two.npz")
    files.save(drawn(6, 2, seed=1), tmp_path / "q.npz")
    assert "Most people are enrolled from one camera" in run("identify", tmp_path / "q.npz", tmp_path / "one.npz")[1]
    assert "one camera" not in run("identify", tmp_path / "q.npz", tmp_path / "two.npz")[1]
    unknown = tuple(replace(crop, camera=None) for crop in made.crops)
    files.save(Embeddings(made.vectors, unknown, made.model), tmp_path / "unknown.npz")
    kept = tmp_path / "unknown.people"
    assert run("identify", tmp_path / "unknown.npz", "--save", kept)[0] == 0
    said = run("identify", tmp_path / "q.npz", kept)[1]
    assert ("No camera is known" in said, "Most people are enrolled from one" in said) == (True, False)


def test_command_refuses(run: Run, tmp_path: Path, model: Path) -> None:
    files.save(drawn(6), tmp_path / "e.npz")
    files.save(drawn(6, seed=1), tmp_path / "q.npz")
    run("identify", tmp_path / "e.npz", "--save", tmp_path / "known.people")
    for command, said in {
        (tmp_path / "e.npz",): "only one thing was given",
        (tmp_path / "q.npz", tmp_path / "e.npz", "--kind", "forest"): "it can be nearest",
        (tmp_path / "q.npz", tmp_path / "known.people", "--kind", "svm"): "--kind is about enrolling",
        (tmp_path / "q.npz", tmp_path / "e.npz", "--save", tmp_path / "e.npz"): "does not end in .people",
        (tmp_path / "q.npz", tmp_path / "e.npz", "--open", 2): "must lie between 0 and 1",
        (tmp_path / "q.npz", tmp_path / "none.people"): "does not exist",
        (tmp_path / "q.npz", tmp_path / "e.npz", "--impostors", tmp_path / "q.npz"): "give --open too",
    }.items():
        code, _, err = run("identify", *command)
        assert (code, said in err) == (2, True), err
