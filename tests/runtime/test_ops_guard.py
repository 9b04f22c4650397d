"""The hold-out guard: how much of a step is taken, and that an audit can repeat it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_ops_replay import average

from p2pfl.runtime.averaging_job import keep_compiled_code, mix, shortened
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.commands.ledger_reading import replay_from
from p2pfl.runtime.guarding import Compared, step_borne
from p2pfl.runtime.training_answers import AnswerGarbled, compared


def step_where(borne_up_to: float) -> tuple[float, list[float]]:
    asked = []

    async def compare(step: float) -> Compared:
        asked.append(step)
        return Compared(change=0.2 if step > borne_up_to else 0.05, band=0.1)

    return asyncio.run(step_borne(compare)), asked


@pytest.mark.parametrize(
    ("borne_up_to", "taken", "looks"),
    [(1.0, 1.0, 1), (0.7, 0.5, 2), (0.3, 0.25, 3), (0.1, 0.0, 3)],
)
def test_a_step_is_halved_until_the_hold_out_bears_it(
    borne_up_to: float, taken: float, looks: int
) -> None:
    step, asked = step_where(borne_up_to)
    assert step == taken
    assert asked == [1.0, 0.5, 0.25][:looks]


def test_chance_is_borne_and_a_loss_that_is_no_number_never_is() -> None:
    assert Compared(change=0.1, band=0.1).is_borne
    assert Compared(change=5.0, band=math.inf).is_borne
    assert not Compared(change=math.nan, band=0.1).is_borne


def test_a_shortened_step_lies_between_and_its_ends_are_exact() -> None:
    own, mixed = (np.random.default_rng(at).standard_normal(9).astype(np.float32) for at in (1, 2))
    assert np.array_equal(shortened(own, mixed.copy(), 1), mixed)
    assert np.array_equal(shortened(own, mixed.copy(), 0), own)
    half = shortened(own, mixed.copy(), 0.5)
    assert half == pytest.approx((own + mixed) / 2, abs=1e-6)


@pytest.mark.parametrize("step", ["1.0", "0.5", "0.0"])
def test_an_audit_repeats_a_guarded_average(tmp_path: Path, step: str) -> None:
    store = BlobStore(tmp_path)
    done = average(store)
    parameters = {**done.rule_params, "guard_step": step}
    inputs = [(used.hash, used.weight_u) for used in done.inputs]
    mixed = mix(store, done.rule, parameters, done.own.hash, inputs, 17)
    digest, _ = store.write_vector(mixed.value)
    guarded = replace(done, rule_params=parameters, out_hash=digest)
    assert replay_from(store)(guarded, {}).distance == 0.0
    assert (digest == done.own.hash) is (step == "0.0")
    claimed = replace(guarded, out_hash=done.out_hash)
    assert (replay_from(store)(claimed, {}).distance == 0.0) is (step == "1.0")


def test_an_answer_without_its_band_is_garbled() -> None:
    assert compared({"change": 0.5, "band": 1}) == Compared(0.5, 1.0)
    with pytest.raises(AnswerGarbled, match="band"):
        compared({"change": 0.5})


def test_compiled_rules_are_kept_in_the_home_where_the_installation_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, str] = {}
    keep_compiled_code(tmp_path, found)
    assert found == {}, "the tests' installation can be written"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    keep_compiled_code(tmp_path, found)
    assert found == {"NUMBA_CACHE_DIR": str(tmp_path / "cache" / "compiled")}
    chosen = {"NUMBA_CACHE_DIR": "elsewhere"}
    keep_compiled_code(tmp_path, chosen)
    assert chosen == {"NUMBA_CACHE_DIR": "elsewhere"}
