"""Models that nothing needs any more go; what audits, studies and manifests need stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ops_manifests import AVERAGING, STUDY, rendered

from gossip.identifiers import Digest
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.history import History, Published
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.runtime import keeping
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.keeping import Keep, NoRoom, bytes_of_study, disused

ROUNDS = 12


def model(kind: str, round_: int) -> ModelHash:
    return ModelHash(f"{kind}{round_:02}".encode().ljust(32, b"."))


def history(*, released: ModelHash | None = None) -> History:
    made = History()
    past = made.study(StudyId(bytes(32)))
    for at in range(ROUNDS):
        past.published[Round(at)] = Published(model("own", at), 100, 0, 0, b"")
        past.averaged[Round(at)] = model("avg", at)
    past.released = released
    return made


def test_nothing_goes_unless_the_policy_says_so() -> None:
    assert disused(history(), Keep(), (), ()) == frozenset()


@pytest.mark.parametrize("rounds", [0, 1, keeping.LIVE_ROUNDS, 7, ROUNDS, 100])
def test_the_newest_rounds_stay_and_never_fewer_than_a_study_needs(rounds: int) -> None:
    stays = max(rounds, keeping.LIVE_ROUNDS)
    expected = {model(kind, at) for kind in ("own", "avg") for at in range(max(0, ROUNDS - stays))}
    assert disused(history(), Keep(rounds), (), ()) == expected


def test_released_named_and_held_models_stay_whatever_round_they_are_of() -> None:
    named, held = model("own", 0), model("avg", 1)
    naming = parse_manifest(rendered(study=replace(STUDY, initial_model=Digest(named))))
    gone = disused(history(released=model("avg", 2)), Keep(0), [naming], [held])
    assert gone.isdisjoint({named, held, model("avg", 2)})
    assert model("own", 1) in gone


def test_old_updates_that_may_stand_in_for_missing_ones_stay() -> None:
    patient = parse_manifest(rendered(averaging=replace(AVERAGING, staleness=3)))
    made, past = History(), history().study(StudyId(bytes(32)))
    made.studies[StudyId(patient.study_id)] = past
    gone = disused(made, Keep(0), [patient], ())
    stays = keeping.LIVE_ROUNDS + 3
    assert gone == {model(kind, at) for kind in ("own", "avg") for at in range(ROUNDS - stays)}


def test_a_model_that_a_newer_round_names_stays() -> None:
    made = history()
    made.study(StudyId(b"2" * 32)).averaged[Round(0)] = model("own", 0)
    assert model("own", 0) not in disused(made, Keep(0), (), ())


def test_what_a_study_may_take_depends_on_what_is_kept_and_on_the_encoding() -> None:
    manifest = parse_manifest(rendered())
    d, sites = manifest.study.parameters, len(manifest.study.sites)
    plain = blob_size_bytes(d)
    everything = bytes_of_study(manifest, Keep())
    rounds = manifest.study.rounds_total
    assert everything == (rounds * (sites + 1) + 2) * plain
    assert (
        bytes_of_study(manifest, Keep(0)) == ((keeping.LIVE_ROUNDS + 1) * (sites + 1) + 2) * plain
    )
    large = replace(STUDY, parameters=1_000_000)
    halved = parse_manifest(rendered(study=large, averaging=replace(AVERAGING, encoding="bf16")))
    assert bytes_of_study(halved, Keep()) < 0.7 * bytes_of_study(
        parse_manifest(rendered(study=large)), Keep()
    )


def test_a_study_beyond_the_budget_or_the_disk_is_refused_with_both_numbers(tmp_path: Path) -> None:
    manifest = parse_manifest(rendered())
    (tmp_path / Digest(bytes(32)).hex()).write_bytes(bytes(3_000_000))
    keeping.require_room(tmp_path, manifest, Keep(bytes_max=1_000_000_000))
    with pytest.raises(OperatorError, match=r"0\.003 GB of the budget of 0\.003 GB are used"):
        keeping.require_room(tmp_path, manifest, Keep(bytes_max=3_000_001))
    endless = parse_manifest(rendered(study=replace(STUDY, rounds=1000, parameters=500_000_000)))
    with pytest.raises(OperatorError, match="the disk has"):
        keeping.require_room(tmp_path, endless, Keep())


def test_one_more_model_beyond_the_budget_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(1000))
    keeping.require_room_for(tmp_path, 500, Keep(bytes_max=1500))
    with pytest.raises(NoRoom, match="models_gb"):
        keeping.require_room_for(tmp_path, 501, Keep(bytes_max=1500))
    keeping.require_room_for(tmp_path, 10**12, Keep())
