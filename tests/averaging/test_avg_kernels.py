"""Compiled kernels and their NumPy reference are the same function, to the bit."""

import sys
from collections.abc import Iterable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.averaging import average, kernels, passes, reference
from p2pfl.averaging.errors import NotFinite, WrongShape, WrongType
from p2pfl.averaging.layout import BLOCK, segment_count, segment_length
from p2pfl.averaging.packed import Halves, Model, Scaled, place_of, values_of
from p2pfl.averaging.sorting import network_for, stride_for

LENGTH = 4 * BLOCK
"""Shorter segments than in real use, so that a small vector has several."""

ENTRIES = (0.0, -0.0, 1.0, 1.0, -2.5, 3e38, -3e38, 1e-40)


@st.composite
def drawn(draw: st.DrawFn) -> tuple[np.ndarray, int, np.ndarray]:
    """Models float32[N, d], f and weights: ties, extremes and odd lengths are likely."""
    n = draw(st.sampled_from([2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 20, 33]))
    d = draw(st.sampled_from([1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * LENGTH + 5]))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    models = rng.standard_normal((n, d)).astype(np.float32)
    if draw(st.booleans()):
        models = rng.choice(np.array(ENTRIES, dtype=np.float32), (n, d))
    return models, draw(st.integers(0, (n - 1) // 2)), rng.random(n) + 0.1


def both(models: np.ndarray) -> tuple[tuple[object, object], ...]:
    return (reference, tuple(models)), (kernels, places_of(models))


def places_of(models: Iterable[Model]) -> np.ndarray:
    return np.array([place_of(model) for model in models], dtype=np.uintp)


def segments(models: np.ndarray) -> int:
    return -(-models.shape[1] // LENGTH)


@given(case=drawn())
def test_distances_have_the_same_bits(case):
    models, _, _ = case
    count, found = segments(models), []
    for engine, members in both(models):
        partial = np.zeros((count, len(models)))
        engine.add_distances(members, models.shape[1], LENGTH, 0, count, partial)
        found.append(partial)
    assert found[0].tobytes() == found[1].tobytes()
    wide = models.astype(np.float64)
    expected = ((wide[1:] - wide[0]) ** 2).sum(axis=1)
    assert found[0].sum(axis=0)[1:] == pytest.approx(expected, rel=1e-12)


@given(case=drawn())
def test_products_have_the_same_bits(case):
    models, _, _ = case
    m, count, found = len(models) - 1, segments(models), []
    for engine, members in both(models):
        partial = np.zeros((count, m + m % 2, m + m % 2))
        engine.add_products(members, models.shape[1], LENGTH, 0, count, partial)
        found.append(np.triu(partial[:, :m, :m]))
    assert found[0].tobytes() == found[1].tobytes()
    differences = models[1:].astype(np.float64) - models[0]
    expected = np.triu(differences @ differences.T)
    slack = 1e-12 * float((differences**2).sum(axis=1).max())
    assert found[0].sum(axis=0) == pytest.approx(expected, rel=1e-12, abs=slack)


@given(case=drawn())
def test_weighted_sums_have_the_same_bits(case):
    models, _, weights = case
    coefficients = weights / weights.sum()
    found = []
    for engine, members in both(models):
        value = np.empty(models.shape[1], dtype=np.float32)
        engine.combine(members, coefficients, models.shape[1], LENGTH, 0, segments(models), value)
        found.append(value)
    assert found[0].tobytes() == found[1].tobytes()
    expected = (coefficients[:, None] * models.astype(np.float64)).sum(axis=0)
    assert found[0] == pytest.approx(expected, rel=1e-6, abs=1e-6 * float(np.abs(models).max()))


@given(case=drawn(), is_weighted=st.booleans(), is_mixed=st.booleans())
def test_trimming_has_the_same_bits(case, is_weighted, is_mixed):
    models, cut, weights = case
    n, d = models.shape
    mixing = np.zeros((n if is_mixed else 0, n + 2 if is_mixed else 0))
    if is_mixed:
        mixing[:, :n] = weights / weights.sum()
    count, found = segments(models), []
    for engine, members in both(models):
        partial, kept = np.zeros((count, n)), np.zeros((count, n), dtype=np.int64)
        value = np.empty(d, dtype=np.float32)
        used = weights if is_weighted else np.empty(0)
        network, stride = network_for(n, cut), stride_for(n)
        engine.trim(
            *(members, used, mixing, network, stride, cut, d, LENGTH, 0, count),
            *(partial, kept, value),
        )
        found.append((partial.tobytes(), kept.tobytes(), value.tobytes()))
    assert found[0] == found[1]


def packed(models: np.ndarray) -> list[Model]:
    """Every third as it is, the others as bf16 and int8 of about the same values."""
    found: list[Model] = []
    for at, row in enumerate(models):
        if at % 3 == 0:
            found.append(Halves((row.view(np.uint32) >> 16).astype(np.uint16)))
        elif at % 3 == 1:
            scales = np.abs(row[::BLOCK]) / np.float32(127)
            whole = np.sign(row) * np.arange(1, row.size + 1) % 127
            found.append(Scaled(whole.astype(np.int8), scales, BLOCK))
        else:
            found.append(row)
    return found


def everything(engine: ModuleType, members: object, models: np.ndarray, cut: int) -> list[bytes]:
    """What each pass makes of members of the shape of these models."""
    n, d, count = *models.shape, segments(models)
    even = n - 1 + (n - 1) % 2
    squares, partial, kept = np.zeros((count, n)), np.zeros((count, n)), np.zeros((count, n), int)
    products, mean, trimmed = np.zeros((count, even, even)), *np.empty((2, d), np.float32)
    engine.add_distances(members, d, LENGTH, 0, count, squares)
    engine.add_products(members, d, LENGTH, 0, count, products)
    engine.combine(members, np.full(n, 1 / n), d, LENGTH, 0, count, mean)
    none, network, stride = np.empty(0), network_for(n, cut), stride_for(n)
    engine.trim(
        *(members, none, none.reshape(0, 0), network, stride, cut, d, LENGTH, 0, count),
        *(partial, kept, trimmed),
    )
    found = (squares, np.triu(products[:, : n - 1, : n - 1]), mean, partial, kept, trimmed)
    return [array.tobytes() for array in found]


@given(case=drawn())
def test_packed_models_give_the_bits_of_what_they_stand_for(case):
    models, cut, _ = case
    members = packed(models)
    plain = np.stack([values_of(member) for member in members])
    expected = everything(reference, tuple(plain), plain, cut)
    assert everything(reference, tuple(members), plain, cut) == expected
    assert everything(kernels, places_of(members), plain, cut) == expected


@pytest.mark.parametrize("own", range(3))
def test_rules_take_packed_models(own):
    drawn = np.random.default_rng(own).standard_normal((4, 777)).astype(np.float32)
    members = packed(drawn)
    members[0], members[own] = members[own], members[0]
    plain, weights = [values_of(member) for member in members], np.full(3, 0.2, np.float32)
    found = average("gm_clip", members[0], members[1:], weights)
    expected = average("gm_clip", plain[0], plain[1:], weights)
    assert found.value.tobytes() == expected.value.tobytes()
    assert found.evidence == expected.evidence
    alone = average("gm_clip", members[0], [], weights[:0]).value
    assert alone.tobytes() == plain[0].tobytes()


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_packed_model_that_is_not_finite_or_has_another_length_is_refused():
    own, weights = np.zeros(5, np.float32), np.full(3, 0.2, np.float32)
    infinite = Halves(np.full(5, 0x7F80, np.uint16))
    neighbours = [infinite, Halves(np.zeros(6, np.uint16)), Halves(np.zeros(5, np.uint16))]
    found = average("gm_clip", own, neighbours, weights)
    assert [str(entry.verdict) for entry in found.evidence] == ["refused", "refused", "kept"]
    with pytest.raises(NotFinite):
        average("gm_clip", infinite, [own], weights[:1])


@pytest.mark.parametrize("scales", [1, 3])
def test_scales_that_are_not_one_for_each_part_are_refused(scales):
    with pytest.raises(WrongShape):
        Scaled(np.zeros(BLOCK + 1, np.int8), np.zeros(scales, np.float32), BLOCK)


def test_what_no_compiled_loop_could_read_is_no_packed_model():
    with pytest.raises(WrongType):
        Halves(np.zeros(5, np.int16))
    with pytest.raises(WrongShape):
        Halves(np.zeros(10, np.uint16)[::2])


def test_ranges_of_segments_can_be_done_apart():
    models = np.random.default_rng(0).standard_normal((3, 3 * LENGTH + 1)).astype(np.float32)
    for engine, members in both(models):
        whole, parts = np.zeros((4, 3)), np.zeros((4, 3))
        engine.add_distances(members, models.shape[1], LENGTH, 0, 4, whole)
        for at in (3, 0, 2, 1):
            engine.add_distances(members, models.shape[1], LENGTH, at, at + 1, parts)
        assert whole.tobytes() == parts.tobytes()


def test_there_are_never_many_segments():
    for d in (1, 1 << 16, (1 << 16) + 1, 10**7, 10**9 + 1):
        assert 1 <= segment_count(d) <= 16
        assert segment_length(d) % BLOCK == 0
        assert segment_count(d) * segment_length(d) >= d


def test_where_nothing_can_be_compiled_numpy_does_the_work(monkeypatch):
    models = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
    weights = np.full(2, 0.3, dtype=np.float32)
    expected = average("gm_clip", models[0], models[1:], weights)
    monkeypatch.delattr("p2pfl.averaging.kernels")
    monkeypatch.setitem(sys.modules, "p2pfl.averaging.kernels", None)
    passes._compiled.cache_clear()
    try:
        assert not passes.prepare()
        again = average("gm_clip", models[0], models[1:], weights)
    finally:
        passes._compiled.cache_clear()
    assert again.value.tobytes() == expected.value.tobytes()
    assert again.evidence == expected.evidence
