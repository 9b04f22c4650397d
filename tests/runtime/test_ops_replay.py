"""Averaging again from what was recorded and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ledger.provenance.findings import DpEvent
from ledger.provenance.kinds import AggDone, AggInput, InputRef
from p2pfl.privacy.accounting import epsilon
from p2pfl.privacy.events import DpEvent as PrivacyEvent
from p2pfl.runtime.averaging_job import averaging_environment, mix
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.commands.ledger_reading import epsilon_of, replay_from


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def average(store: BlobStore) -> AggDone:
    """An average of three models, recorded as the node records it."""
    drawn = np.random.default_rng(1)
    own, first, second = (
        store.write_vector(drawn.standard_normal(17).astype(np.float32))[0] for _ in range(3)
    )
    inputs = [(first, 300_000), (second, 200_000)]
    mixed = mix(store, "gm_clip", {"steps": "8"}, own, inputs, 17)
    return AggDone(
        study=b"s" * 32,
        round=1,
        own=InputRef(4, own),
        inputs=tuple(
            AggInput(bytes([at]) * 32, bytes([at]) * 32, 7, digest, weight_u)
            for at, (digest, weight_u) in enumerate(inputs)
        ),
        rule="gm_clip",
        rule_params={"steps": "8"},
        verdicts=mixed.verdicts,
        env_hash=averaging_environment(),
        out_hash=store.write_vector(mixed.value)[0],
    )


def test_an_honest_average_is_reproduced_bit_for_bit(store: BlobStore) -> None:
    done = average(store)
    again = replay_from(store)(done, {})
    assert again.out_hash == done.out_hash
    assert again.distance == 0.0
    assert again.same_environment


def test_another_result_shows_its_distance(store: BlobStore) -> None:
    done = average(store)
    vector = store.read_vector(done.out_hash, 17)
    vector[3] += np.float32(0.5)
    forged = replace(done, out_hash=store.write_vector(vector)[0], env_hash=bytes(32))
    again = replay_from(store)(forged, {})
    assert again.out_hash == done.out_hash
    assert again.distance == pytest.approx(0.5, abs=1e-6)
    assert not again.same_environment


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rule": "no_such_rule"}, "no averaging rule"),
        ({"out_hash": b"x" * 32}, "is not stored"),
        ({"own": InputRef(4, b"x" * 32)}, "is not stored"),
        ({"rule_params": {"nonsense": "1"}}, "no parameter"),
    ],
)
def test_what_cannot_be_averaged_again_is_a_value_error(
    store: BlobStore, change: dict[str, object], what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        replay_from(store)(replace(average(store), **change), {})  # type: ignore[arg-type]


def test_epsilon_of_recorded_events_is_the_nodes_own_accountant() -> None:
    recorded = [DpEvent("gaussian", sigma=5.6, q=1.0, steps=30)]
    expected = epsilon([PrivacyEvent("gaussian", sigma=5.6, q=1.0, steps=30)], 1e-3)
    assert epsilon_of(recorded, 1e-3) == expected
    with pytest.raises(ValueError, match="noise multiplier"):
        epsilon_of([DpEvent("gaussian", sigma=0.01, q=1.0, steps=30)], 1e-3)
