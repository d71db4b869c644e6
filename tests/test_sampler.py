from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np
import pytest

from reid.errors import DataError
from reid.sampler import Groups, PairSampler, PKSampler, ShuffledSampler, share

COUNTS = [1, 2, 3, 4, 5, 6, 7, 8, 20, 30]
LABELS = np.repeat(np.arange(10), COUNTS)
CAMERAS = np.random.default_rng(0).choice([3, 5, 9], len(LABELS), p=[0.8, 0.1, 0.1])
Sampler = PKSampler | ShuffledSampler | PairSampler

MADE: dict[str, Callable[[int], Sampler]] = {
    "people": lambda seed: PKSampler(LABELS, 4, 4, seed),
    "cameras": lambda seed: PKSampler(LABELS, 4, 4, seed, CAMERAS, 0.5),
    "apart": lambda seed: PKSampler(LABELS, 2, 4, seed, groups=Groups(LABELS % 2, apart=True)),
    "shuffled": lambda seed: ShuffledSampler(LABELS, 16, seed),
    "pairs": lambda seed: PairSampler(LABELS, 8, seed, CAMERAS),
}


def looks(sampler: Sampler, epochs: int, per: np.ndarray = LABELS) -> np.ndarray:
    """How often each person (or what `per` says of each crop) comes in an epoch, on average."""
    rows = np.concatenate([rows for e in range(epochs) for rows in sampler.epoch(e)])
    return np.bincount(per[rows], minlength=per.max() + 1) / epochs


# ── what every sampler does ──


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_an_epoch_is_a_function_of_its_number_and_the_seed(make: Callable[[int], Sampler]) -> None:
    fresh = [list(make(1).epoch(e)) for e in (0, 1)]
    used = make(1)
    again = {e: list(used.epoch(e)) for e in (1, 0)}
    assert len(fresh[0]) == len(used)
    assert len({rows.shape for e in fresh for rows in e}) == 1
    for e in (0, 1):
        assert np.array_equal(fresh[e], again[e])
    assert not np.array_equal(fresh[0], fresh[1])
    assert not np.array_equal(fresh[0], list(make(2).epoch(0)))


@pytest.mark.parametrize(
    ("sampler", "size"), [(PKSampler(LABELS, 2, 4), 8), (ShuffledSampler(LABELS, 8), 8), (PairSampler(LABELS, 2), 4)]
)
def test_each_crop_is_seen_about_once_in_an_epoch(sampler: Sampler, size: int) -> None:
    assert len(sampler) == 86 // size
    seen = looks(sampler, 300, np.arange(len(LABELS)))
    due = np.full(86, len(sampler) * size / 86)
    if isinstance(sampler, PairSampler):
        due[0] /= 2  # a single crop has no pair of one person
    assert seen == pytest.approx(due, abs=0.3)
    assert np.bincount(LABELS, seen) == pytest.approx(np.bincount(LABELS, due), rel=0.1)


# ── people ──


def test_batches_hold_p_people_with_k_crops_each() -> None:
    rng = np.random.default_rng(0)
    for trial in range(40):
        labels = rng.permutation(np.repeat(np.arange(7), rng.integers(1, 12, 7)))
        people, crops = int(rng.integers(1, 8)), int(rng.integers(1, 5))
        sampler = PKSampler(labels, people, crops, trial, cameras=labels % 3 if trial % 2 else None, power=trial % 3)
        batches = list(sampler.epoch(0))
        assert len(batches) == len(sampler) == max(1, len(labels) // (people * crops))
        for rows in batches:
            hands = labels[rows].reshape(people, crops)
            assert (hands == hands[:, :1]).all()
            assert len(set(hands[:, 0])) == people


def test_a_crop_comes_twice_in_a_hand_only_where_there_are_too_few() -> None:
    for rows in PKSampler(LABELS, 4, 4).epoch(3):
        for hand in rows.reshape(4, 4):
            assert len(set(hand)) == min(4, COUNTS[LABELS[hand[0]]])
            assert max(Counter(hand.tolist()).values()) <= -(-4 // COUNTS[LABELS[hand[0]]])


def test_where_everything_comes_out_even_an_epoch_is_each_crop_once() -> None:
    labels = np.tile(np.arange(8), 8)
    for cameras in (None, np.arange(64) // 8):
        for e in range(5):
            assert sorted(np.concatenate(list(PKSampler(labels, 4, 4, cameras=cameras).epoch(e)))) == list(range(64))


def test_nobody_is_twice_in_a_batch_and_the_others_share_what_is_left() -> None:
    """Person 9 has 30 of 86 crops, worth 6.98 of 20 hands; there are but 5 batches."""
    seen = looks(PKSampler(LABELS, 4, 4), 400)
    level = 15 * 4 / sum(COUNTS[:9])
    assert seen == pytest.approx([level * n for n in COUNTS[:9]] + [20], rel=0.12)
    assert seen[9] == 20


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_power_says_how_often_rare_people_are_drawn(power: float) -> None:
    due = np.array(COUNTS) ** power
    for sampler in (PKSampler(LABELS, 1, 2, power=power), ShuffledSampler(LABELS, 20, power=power)):
        seen = looks(sampler, 300)
        assert seen / seen.sum() == pytest.approx(due / due.sum(), rel=0.15)


def test_an_epoch_gives_everybody_a_whole_number_of_hands_next_to_what_is_due() -> None:
    """Also with people of 1 crop: chance decides only about the fraction."""
    sampler = PKSampler(LABELS, 1, 2)
    for e in range(20):
        hands = np.bincount(LABELS[np.concatenate(list(sampler.epoch(e)))], minlength=10) / 2
        assert (abs(hands - np.array(COUNTS) / 2) < 1).all()


def test_the_crops_of_a_person_are_from_as_many_cameras_as_can_be() -> None:
    own = [CAMERAS[p == LABELS].tolist() for p in range(10)]
    best = [max(len(set(hand)) for hand in combinations(cameras, min(4, len(cameras)))) for cameras in own]
    plain = spread = 0
    for e in range(20):
        for rows in PKSampler(LABELS, 4, 4, cameras=CAMERAS).epoch(e):
            for hand in rows.reshape(4, 4):
                assert len(set(CAMERAS[hand])) == best[LABELS[hand[0]]]
                spread += best[LABELS[hand[0]]]
        for rows in PKSampler(LABELS, 4, 4).epoch(e):
            plain += sum(len(set(CAMERAS[hand])) for hand in rows.reshape(4, 4))
    assert plain < 0.95 * spread, "no challenge"
    assert (looks(PKSampler(LABELS, 4, 4, cameras=CAMERAS), 200, np.arange(len(LABELS))) > 0.2).all()


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("cannot be drawn from 10; ask for fewer", lambda: PKSampler(LABELS, 11, 2)),
        ("0 crops each cannot be drawn", lambda: PKSampler(LABELS, 2, 0)),
        ("must be at least 0", lambda: PKSampler(LABELS, 2, 2, power=-1.0)),
        ("must be at least 0", lambda: PKSampler(LABELS, 2, 2, groups=Groups(LABELS, balance=float("nan")))),
        ("drawn from 5 of data set 0; ask", lambda: PKSampler(LABELS, 6, 2, groups=Groups(LABELS % 2, apart=True))),
        ("from 86 crops; ask for 1 to 86", lambda: ShuffledSampler(LABELS, 87)),
        ("ask for an even number", lambda: PairSampler(LABELS, 3)),
        ("12 people cannot be drawn from 10", lambda: PairSampler(LABELS, 12)),
    ],
)
def test_what_the_data_cannot_give_is_refused(message: str, make: Callable[[], object]) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="86 labels but 3 cameras"):
        PKSampler(LABELS, 2, 2, cameras=CAMERAS[:3])
    with pytest.raises(ValueError, match="86 labels but 3 data sets"):
        PKSampler(LABELS, 2, 2, groups=Groups(LABELS[:3]))
    with pytest.raises(ValueError, match="person 1 is in two data sets"):
        PKSampler(LABELS, 2, 2, groups=Groups(np.arange(86) % 2))
    with pytest.raises(ValueError, match="use PKSampler to keep them apart"):
        ShuffledSampler(LABELS, 2, groups=Groups(LABELS % 2, apart=True))


# ── data sets ──

PEOPLE = np.concatenate([np.repeat(np.arange(64), 8), np.repeat(np.arange(64, 80), 4), np.repeat(np.arange(80, 88), 1)])
SETS = np.repeat([0, 1, 2], [512, 64, 8])


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("apart", [False, True])
def test_balance_says_how_much_is_drawn_from_each_data_set(balance: float, apart: bool) -> None:
    due = np.array([512, 64, 8]) ** balance
    sampler = PKSampler(PEOPLE, 4, 2, groups=Groups(SETS, balance, apart))
    seen = looks(sampler, 100, SETS)
    assert seen / seen.sum() == pytest.approx(due / due.sum(), rel=0.12)
    kinds = [set(SETS[rows]) for e in range(5) for rows in sampler.epoch(e)]
    assert all(len(k) == 1 for k in kinds) == apart
    if apart:
        assert sum(a != b for a, b in pairwise(kinds)) > 20, "data sets come one after the other"


def test_shuffled_batches_balance_data_sets_too() -> None:
    seen = looks(ShuffledSampler(PEOPLE, 32, groups=Groups(SETS, 0.5)), 50, SETS)
    due = np.sqrt([512, 64, 8])
    assert seen / seen.sum() == pytest.approx(due / due.sum(), rel=0.02)


def test_within_a_data_set_people_are_drawn_by_their_power() -> None:
    seen = looks(PKSampler(LABELS, 1, 2, power=0.0, groups=Groups(LABELS // 5, 0.0)), 200)
    assert seen / seen.sum() == pytest.approx(np.full(10, 0.1), rel=0.05)


# ── shuffled and pairs ──


def test_shuffled_batches_leave_out_what_fills_none() -> None:
    epochs = [np.concatenate(list(ShuffledSampler(LABELS, 16).epoch(e))) for e in range(3)]
    for rows in epochs:
        assert len(set(rows)) == len(rows) == 80
    left = [set(range(86)) - set(rows) for rows in epochs]
    assert left[0] != left[1] != left[2]
    in_order = np.concatenate(list(ShuffledSampler(np.arange(1000), 10).epoch(0)))
    assert abs(np.corrcoef(in_order, np.arange(1000))[0, 1]) < 0.2, "not shuffled"


def test_half_of_the_pairs_are_of_one_person_from_two_cameras_where_there_are_two() -> None:
    two = {p for p in range(10) if len(set(CAMERAS[p == LABELS])) > 1}
    for e in range(20):
        for rows in PairSampler(LABELS, 8, cameras=CAMERAS).epoch(e):
            same, different = rows.reshape(4, 2, 2).swapaxes(0, 1)
            assert len(set(LABELS[same[:, 0]])) == 4
            assert (LABELS[same[:, 0]] == LABELS[same[:, 1]]).all()
            assert (same[:, 0] != same[:, 1]).all()
            assert (LABELS[different[:, 0]] != LABELS[different[:, 1]]).all()
            for a, b in same:
                assert (CAMERAS[a] != CAMERAS[b]) == (LABELS[a] in two)


def test_pairs_come_as_many_where_most_people_have_one_crop() -> None:
    sampler = PairSampler(np.concatenate([np.repeat([0, 1, 2], 2), np.arange(3, 60)]), 4)
    assert len(list(sampler.epoch(0))) == len(sampler) == 63 // 8


# ── several processes ──


def test_processes_share_each_batch_and_people_stay_whole() -> None:
    for batch in PKSampler(LABELS, 6, 4).epoch(0):
        parts = [share(batch, r, 3, whole=4) for r in range(3)]
        assert np.array_equal(np.concatenate(parts), batch)
        people = [set(LABELS[part]) for part in parts]
        assert [len(p) for p in people] == [2, 2, 2]
        assert not people[0] & people[1]


def test_batches_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(ValueError, match=r"24 rows, 4 of which .* by 4 processes; make it a multiple of 16"):
        share(np.arange(24), 0, 4, whole=4)
    with pytest.raises(ValueError, match="process 2 is not one of 2"):
        share(np.arange(24), 2, 2)
