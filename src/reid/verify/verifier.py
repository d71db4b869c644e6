"""The fitted thing: probabilities and decisions from distances, and its file."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from reid.disk import replacing
from reid.errors import DataError, ModelError, ShapeError
from reid.types import Embeddings, Match, Verdict
from reid.verify.curve import Curve, Floats, log_odds, sigmoid
from reid.verify.parts import Accepts, Correction, Doubt
from reid.wording import many, model_named

if TYPE_CHECKING:
    from reid.verify.pairs import Pairs

FORMAT, VERSION = "reid calibration", 1
SETTLED = 0.9  # where crops are so poor that no distance could give so much, the answer is "not enough evidence"


@dataclass(frozen=True, slots=True, eq=False)
class Verifier:
    """Turns distances into probabilities of one person, for one model.

    The probability is that of a pair which, before it was looked at, was as likely to show one person as two (`prior`
    0.5), so that more than a half means: same. With another prior it is the posterior under that one. In a search
    through many people the prior is far below a half, since most of them are others.

        log-odds = evidence · (offset + scale · curve(distance) + lean · (1 − evidence)) + ln prior / (1 − prior)

    with offset and scale of the two cameras where known, else 0 and 1, and the evidence that the crops' quality leaves,
    else 1, with the lean of `doubt`.

    Attributes:
        model: fingerprint; distances of another model mean something else.
        curve: common to all cameras.
        accepts: false-accept rates of thresholds, descending.
        people, same, different: how many people, and pairs of one and of two, it was fitted on.
        kind: how the curve was fitted, the one with the lower log-loss on people left out.
        losses: that log-loss, in nats, by kind; a guess has ln 2 = 0.693.
        about: what it was fitted on, in words.
        cameras: corrections by two names of cameras in sorted order.
        doubt: what quality does; None where it was not looked at.
        prior: how likely a pair shows one person before it is looked at.
    """

    model: str
    curve: Curve
    accepts: tuple[Accepts, ...]
    people: int
    same: int
    different: int
    kind: str = "isotonic"
    losses: Mapping[str, float] = field(default_factory=dict)
    about: str = ""
    cameras: Mapping[tuple[str, str], Correction] = field(default_factory=dict)
    doubt: Doubt | None = None
    prior: float = 0.5

    def __post_init__(self) -> None:
        if not self.model or not isinstance(self.model, str):
            raise ShapeError("a calibration needs the fingerprint of its model")
        if not 0 < self.prior < 1:
            raise DataError(f"the prior is {self.prior}; it must lie between 0 and 1, both excluded")
        rates = [a.rate for a in self.accepts]
        if rates != sorted(set(rates), reverse=True):
            raise ShapeError("the false-accept rates of a calibration must fall from row to row")
        if any(a > b for a, b in self.cameras):
            raise ShapeError("two cameras of a calibration must stand in sorted order")

    @classmethod
    def fit(cls, pairs: Pairs, about: str = "", cameras: bool = True) -> Self:
        """Fit on pairs from `verify.pairs.labelled` or `tracked`; see `verify.fit`.

        Args:
            about: what they are, in words.
            cameras: also learn corrections for two cameras, if people left out are the better for it.

        Raises:
            DataError: there are no pairs of one kind, or too few people to leave some out.
        """
        from reid.verify import fit

        return cls(model=pairs.model, about=about, **fit.fit(pairs, cameras))

    def doubting(self, pairs: Pairs, quality: Floats, natural: NDArray[np.bool_]) -> Self:
        """Itself with what quality does, learnt from pairs of which some are of poor crops; see `verify.fit.doubt`."""
        from reid.verify import fit

        doubt, losses = fit.doubt(self, pairs, quality, natural)
        return replace(self, doubt=doubt, losses={**self.losses, **losses})

    def log_odds(
        self,
        distances: NDArray[np.floating],
        cameras: Sequence[tuple[str | None, str | None]] | None = None,
        evidence: Floats | float = 1.0,
    ) -> Floats:
        """Natural log-odds of one person, the prior included, for (N,) distances."""
        distances = np.asarray(distances)
        if np.isnan(distances).any() or (distances < 0).any():
            raise ShapeError("a distance is not a number or below 0; compute it again")
        found = self.curve.log_odds(distances)
        if cameras is not None and self.cameras:
            known = [self.cameras.get(_sorted(pair), _NONE) for pair in cameras]
            found = np.array([c.offset for c in known]) + np.array([c.scale for c in known]) * found
        return self._left(found, evidence) + log_odds(self.prior)

    def _left(self, odds: Floats, evidence: Floats | float) -> Floats:
        return np.asarray(evidence * odds) if self.doubt is None else self.doubt.leaning(odds, evidence)

    def probability(
        self,
        distances: NDArray[np.floating],
        cameras: Sequence[tuple[str | None, str | None]] | None = None,
        evidence: Floats | float = 1.0,
    ) -> Floats:
        """(N,) probability of one person, in [0, 1]; never rises with the distance.

        Args:
            distances: (N,) Euclidean, at least 0.
            cameras: for each pair the two cameras, in any order.
            evidence: what the crops' quality leaves, from `Doubt.evidence`.
        """
        return sigmoid(self.log_odds(distances, cameras, evidence))

    def given(self, prior: float) -> Self:
        """Itself for pairs of which so large a share shows one person."""
        return replace(self, prior=prior)

    def evidence(self, first: Floats | None, second: Floats | None) -> Floats | float:
        """(N,) what is left of the evidence given (N, M) qualities; 1 where they or their weights are not known."""
        if self.doubt is None or first is None or second is None:
            return 1.0
        return self.doubt.evidence(first, second)

    def settles(self, evidence: Floats) -> NDArray[np.bool_]:
        """(N,) whether with so much evidence left distances could still give SETTLED, either way."""
        near, far = log_odds(self.curve.probabilities[[0, -1]])
        wanted = min(float(log_odds(SETTLED)), near, -far)
        return np.asarray((self._left(near, evidence) >= wanted) & (self._left(far, evidence) <= -wanted))

    def at(self, rate: float) -> Accepts:
        """The threshold for a false-accept rate; between two rows of `accepts` it goes by the rate's logarithm.

        Raises:
            DataError: so small or large a rate cannot be shown with the pairs it was fitted on.
        """
        rates = [a.rate for a in self.accepts]
        if not rates or not rates[-1] * (1 - 1e-9) <= rate <= rates[0] * (1 + 1e-9):
            can = f"those of this calibration run from {rates[-1]:g} to {rates[0]:g}" if rates else "it has none"
            raise DataError(f"a false-accept rate of {rate:g} was asked for; {can}, fit one on more people for less")
        place = np.log(rates[::-1])

        def between(name: str) -> float:
            return float(np.interp(math.log(rate), place, [getattr(a, name) for a in self.accepts[::-1]]))

        names = ("distance", "low", "high", "rate_low", "rate_high")
        return Accepts(rate, **{name: between(name) for name in names})

    def check(self, *models: str) -> None:
        """Raises ModelError where embeddings come from another model than the one of this fingerprint."""
        for model in models:
            if model != self.model:
                raise ModelError(
                    f"the embeddings come from model {model_named(model)} and the calibration was fitted for model "
                    f"{model_named(self.model)}; fit one with `reid verify --fit`"
                )

    def verify(
        self,
        first: Embeddings,
        second: Embeddings,
        far: float | None = None,
        quality: tuple[Floats, Floats] | None = None,
    ) -> list[Verdict]:
        """Judge pairs: row by row of two sets of N embeddings.

        Args:
            far: decide by the threshold for this false-accept rate, instead of by the more likely.
            quality: (N, M) of either side's crops.

        Raises:
            ModelError: the embeddings come from another model.
            ShapeError: the sets are not equally long.
        """
        self.check(first.model, second.model)
        if len(first) != len(second):
            raise ShapeError(
                f"there are {len(first)} crops on one side and {len(second)} on the other; they go in pairs"
            )
        cameras = [(a.camera, b.camera) for a, b in zip(first.crops, second.crops, strict=True)]
        apart = distances(first.vectors, second.vectors)
        return self.judge(apart, cameras, far, quality)

    def judge(
        self,
        distances: Floats,
        cameras: Sequence[tuple[str | None, str | None]] | None = None,
        far: float | None = None,
        quality: tuple[Floats, Floats] | None = None,
    ) -> list[Verdict]:
        """As `verify`, from (N,) distances."""
        left = np.broadcast_to(self.evidence(*(quality or (None, None))), distances.shape)
        p = self.probability(distances, cameras, left)
        enough = self.settles(left)
        limit = self.at(far).distance if far is not None else None
        verdicts = []
        for i, (d, chance, share) in enumerate(zip(distances.tolist(), p.tolist(), left.tolist(), strict=True)):
            line = limit if limit is not None else self._even(cameras[i] if cameras else (None, None), share)
            reasons = () if quality is None else self._reasons(quality[0][i], quality[1][i])
            verdicts.append(Verdict((d <= line) if enough[i] else None, chance, d, line, share, reasons))
        return verdicts

    def _even(self, cameras: tuple[str | None, str | None], evidence: float) -> float:
        """The largest distance at which a pair is at least as likely one person as two."""
        correction = self.cameras.get(_sorted(cameras), _NONE)
        lean = self.doubt.lean * (1 - evidence) if self.doubt else 0.0
        wanted = -float(log_odds(self.prior)) / max(evidence, 1e-12) - lean - correction.offset
        if not correction.scale:
            return math.inf if wanted <= 0 else -1.0
        return self.curve.crossing(wanted / correction.scale)

    def _reasons(self, first: Floats, second: Floats) -> tuple[str, ...]:
        if self.doubt is None:
            return ()
        sides = zip(("first", "second"), (first, second), strict=True)
        return tuple(f"{side}: {name}" for side, q in sides for name in self.doubt.reasons(q))

    def filled(self, camera: str | None, found: Sequence[Match]) -> tuple[Match, ...]:
        """A query's matches with their probabilities."""
        p = self.probability(np.array([m.distance for m in found]), [(camera, m.crop.camera) for m in found])
        return tuple(replace(m, probability=float(v)) for m, v in zip(found, p, strict=True))

    def __str__(self) -> str:
        on = f", {self.about}" if self.about else ""
        return f"{self.kind} calibration on {many(self.people, 'person', 'people')}{on}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON that `Verifier.load` reads back without loss, and that can be edited. Replaces it in one step."""
        knots = zip(self.curve.distances.tolist(), self.curve.probabilities.tolist(), strict=True)
        cameras = [{"between": list(pair)} | asdict(c) for pair, c in self.cameras.items()]
        text = json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "model": self.model,
                "about": self.about,
                "people": self.people,
                "same": self.same,
                "different": self.different,
                "prior": self.prior,
                "kind": self.kind,
                "losses": dict(self.losses),
                "curve": [list(knot) for knot in knots],
                "accepts": [asdict(a) for a in self.accepts],
                "cameras": cameras,
                "doubt": asdict(self.doubt) if self.doubt else None,
            },
            indent=1,
            ensure_ascii=False,
        )
        text = re.sub(r"\[\s+(-?[\d.e-]+),\s+(-?[\d.e-]+)\s+\]", r"[\1, \2]", text)  # a knot a line
        with replacing(path) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, damaged, of another version or something else.
        """
        try:
            read = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(read, dict) or (read.get("format"), read.get("version")) != (FORMAT, VERSION):
                raise ShapeError(f"it does not say {FORMAT!r}, version {VERSION}")
            return cls(**_parts(read))
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; give a calibration that `reid verify --fit` wrote") from None
        except KeyError as error:
            raise DataError(f"{path} is not a readable calibration (no {error}); fit it again") from None
        except (ValueError, TypeError, OSError, AttributeError, DataError) as error:
            raise DataError(f"{path} is not a readable calibration ({error}); fit it again") from None


_NONE = Correction(0, 0.0, 1.0)


def _sorted(pair: tuple[str | None, str | None]) -> tuple[str, str]:
    a, b = pair[0] or "", pair[1] or ""
    return (a, b) if a <= b else (b, a)


def _parts(read: dict[str, Any]) -> dict[str, Any]:
    """What a file says, as the arguments of a Verifier; unknown names fail."""
    known = {"format", "version", "curve", "accepts", "cameras", "doubt"}
    plain = ("model", "about", "people", "same", "different", "prior", "kind", "losses")
    if unknown := set(read) - known - set(plain):
        raise ShapeError(f"it says {', '.join(sorted(unknown))}, which no calibration has")
    counts = [read[name] for name in ("people", "same", "different")]
    if not all(isinstance(n, int) and n >= 0 for n in counts) or not isinstance(read["prior"], float):
        raise ShapeError("people, same and different must be whole numbers, and prior a number with a point")
    knots = np.array(read["curve"], dtype=float).reshape(len(read["curve"]), 2)
    cameras = {}
    for row in read["cameras"]:
        a, b = row.pop("between")
        cameras[str(a), str(b)] = Correction(**row)
    doubt = None
    if read["doubt"]:
        measures, typical, weights = (tuple(read["doubt"][name]) for name in ("measures", "typical", "weights"))
        doubt = Doubt(measures, typical, weights, float(read["doubt"].get("lean", 0)))
    accepts = tuple(Accepts(**row) for row in read["accepts"])
    rest = {name: read[name] for name in plain}
    return rest | {"curve": Curve(knots[:, 0], knots[:, 1]), "accepts": accepts, "cameras": cameras, "doubt": doubt}


def distances(first: NDArray[np.floating], second: NDArray[np.floating]) -> Floats:
    """(N, D) and (N, D) to (N,) Euclidean distances, row by row, the same to the last bit either way round."""
    apart = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return np.asarray(np.sqrt(np.einsum("nd,nd->n", apart, apart)))


def beside(model: str | os.PathLike[str]) -> Path:
    """Where a model file's calibration lies: `mine.calibration.json` beside `mine.onnx`."""
    return Path(model).with_suffix(".calibration.json")
