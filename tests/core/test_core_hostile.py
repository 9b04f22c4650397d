"""Members that lie: what they send is refused by name, counted, and put on record sparingly."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from core_attackers import FIVE, Attacker, attacked, digest, drafts, gathering, misbehaviour, of
from core_worlds import begin, check_ledger

from gossip.messages import Decision
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.inbox import OFFERED_ROUNDS, WINDOW_ROUNDS
from p2pfl.core.names import Round
from p2pfl.core.phases import Phase

# -- updates -----------------------------------------------------------------------------------


def test_an_update_for_a_study_of_strangers_is_refused() -> None:
    _, victim, attacker = gathering()
    effects = attacker.says(victim, attacker.update(0, study=digest("another")))
    assert misbehaviour(effects) == ["UnknownStudy"]
    assert not of(fx.Obtain, effects)


def test_an_update_of_a_site_that_the_manifest_does_not_name_is_refused() -> None:
    story, victim, _ = gathering(replace(FIVE, topology="ring", neighbours_min=1))
    ring = sorted(story.manifest.study.sites)
    place = ring.index(victim.id)
    opposite = ring[(place + 2) % len(ring)]
    liar = Attacker(story, story.world.sites[opposite])
    effects = liar.says(victim, liar.update(0))
    assert misbehaviour(effects) == ["NotANeighbour"]
    assert not of(fx.Obtain, effects)


def test_an_update_of_another_size_is_refused_before_it_is_fetched() -> None:
    _, victim, attacker = gathering()
    effects = attacker.says(victim, attacker.update(0, size=10**9, inline=b""))
    assert misbehaviour(effects) == ["WrongSize"]
    assert not of(fx.Obtain, effects)


def test_an_update_for_a_round_that_does_not_exist_is_refused() -> None:
    story, victim, attacker = gathering()
    total = story.manifest.study.rounds_total
    assert misbehaviour(attacker.says(victim, attacker.update(total))) == ["RoundOutOfRange"]


def test_a_flood_of_future_rounds_fills_neither_memory_nor_disk() -> None:
    _, victim, attacker = gathering(replace(FIVE, rounds=1_000))
    run = next(iter(victim.core.runs.values()))
    before = run.gathering.held
    obtained = 0
    for round_ in range(1_000):
        obtained += len(of(fx.Obtain, attacker.says(victim, attacker.update(round_))))
    assert obtained <= 2
    assert run.gathering.held - before <= WINDOW_ROUNDS + 1 + OFFERED_ROUNDS + obtained


def test_one_site_far_ahead_drags_nobody_along() -> None:
    story, _victim, attacker = attacked(replace(FIVE, rounds=10))
    for site in story.sites[:-1]:
        attacker.says(site, attacker.update(9, value=1e6))
    assert story.completes(*story.sites[:-1])
    for site in story.sites[:-1]:
        assert not story.past(site).skipped
        check_ledger(story, site)
        assert float(np.abs(site.model(site.released[story.study])).max()) < 100


def test_the_same_update_again_is_counted_and_otherwise_ignored() -> None:
    _, victim, attacker = gathering()
    assert of(fx.Obtain, attacker.says(victim, attacker.update(0)))
    size = len(victim.ledger.entries)
    for _ in range(1_000):
        assert not attacker.says(victim, attacker.update(0))
    assert victim.core.refused[attacker.site.id, "Replayed"] == 1_000
    assert len(victim.ledger.entries) == size


def test_equivocation_is_put_on_record_once() -> None:
    _, victim, attacker = gathering()
    attacker.says(victim, attacker.update(0))
    effects = attacker.says(victim, attacker.update(0, value=2.0))
    assert misbehaviour(effects) == ["Equivocation"]
    assert not of(fx.Obtain, effects)
    again = [attacker.says(victim, attacker.update(0, value=3.0 + k)) for k in range(8)]
    assert misbehaviour([effect for effects in again for effect in effects]) == []


def test_equivocation_about_a_recorded_round_is_noticed_too() -> None:
    story, victim, attacker = attacked()
    attacker.tells(victim, attacker.update(0))
    assert story.runs_until(lambda: 1 in story.past(victim).averaged)
    assert (0, attacker.site.id) in story.past(victim).received
    assert misbehaviour(attacker.says(victim, attacker.update(0, value=2.0))) == ["Equivocation"]
    assert misbehaviour(attacker.says(victim, attacker.update(0))) == []


def test_a_late_update_is_put_on_record_once() -> None:
    story, victim, attacker = attacked()
    assert story.runs_until(lambda: 1 in story.past(victim).averaged)
    effects = [e for _ in range(50) for e in attacker.says(victim, attacker.update(0))]
    verdicts = drafts(effects, kinds.UpdateReceived)
    assert [(body["round"], body["verdict"]) for body in verdicts] == [(0, "late")]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_payload_that_is_not_finite_is_rejected_on_record_and_the_round_goes_on(
    value: float,
) -> None:
    story, victim, attacker = gathering()
    sound = attacker.update(0)
    one, bad = np.float32(1.0).tobytes(), np.float32(value).tobytes()
    data = sound.inline[:-4] + bad
    assert sound.inline.endswith(one)
    poisoned = replace(sound, inline=data, hash=hashlib.sha256(data).digest())
    attacker.tells(victim, poisoned)
    assert story.completes(*story.sites[:-1])
    check_ledger(story, victim)
    receipt = story.past(victim).received[0, attacker.site.id]
    assert (receipt.verdict, receipt.reason) == ("rejected", "NotFinite")
    for record in story.records(victim, kinds.AggDone):
        assert attacker.site.id not in {given.site for given in record.inputs}


def test_a_payload_of_another_shape_is_rejected_on_record() -> None:
    story, victim, attacker = gathering()
    size = attacker.update(0).size
    data = b"x" * size
    wrong = attacker.update(0, inline=data, hash=hashlib.sha256(data).digest())
    attacker.tells(victim, wrong)
    assert story.completes(*story.sites[:-1])
    assert story.past(victim).received[0, attacker.site.id].verdict == "rejected"
    check_ledger(story, victim)


def test_a_neighbour_whose_payloads_never_come_does_not_keep_training_from_opening() -> None:
    story, victim, attacker = attacked()
    run, study = victim.core.runs[story.study], story.study
    opened = 0
    for second in range(20):
        now_s = story.world.now_s + second
        message = attacker.update(0, inline=b"")
        failed = ev.ObtainFailed(
            study, run.round, attacker.site.id, message.hash, "not-fetched", hostile=False
        )
        effects = [*victim.core.handle(now_s, ev.Delivered(attacker.site.id, message))]
        effects += victim.core.handle(now_s, failed)
        effects += victim.core.handle(now_s, ev.TimerFired(ev.Retry(study)))
        opened += len(of(fx.OpenTraining, effects))
        assert not of(fx.FetchModel, effects)
    assert opened == 0


def test_payloads_that_failed_are_asked_for_again_when_the_sender_is_back() -> None:
    story, victim, attacker = gathering()
    message, study, site = attacker.update(0, inline=b""), story.study, attacker.site.id
    handle, now_s = victim.core.handle, story.world.now_s
    assert of(fx.Obtain, attacker.says(victim, message))
    failed = ev.ObtainFailed(study, Round(0), site, message.hash, "x", hostile=False)
    assert of(fx.SetTimer, handle(now_s, failed))
    assert not of(fx.Obtain, handle(now_s, ev.TimerFired(ev.Retry(study))))
    assert of(fx.Obtain, handle(now_s, ev.Met(site)))


def test_one_entry_cannot_stand_for_two_rounds() -> None:
    _, victim, attacker = gathering()
    attacker.says(victim, attacker.update(0))
    leaf = attacker.update(0).entry_leaf
    effects = attacker.says(victim, attacker.update(1, value=2.0, entry_leaf=leaf))
    assert misbehaviour(effects) == ["ReusedEntry"]


def test_one_entry_cannot_stand_for_a_round_that_was_averaged_and_another() -> None:
    story, victim, attacker = attacked(replace(FIVE, rounds=30))
    attacker.tells(victim, attacker.update(0))
    assert story.runs_until(lambda: 4 in story.past(victim).averaged)
    leaf = attacker.update(0).entry_leaf
    ahead = max(story.past(victim).averaged) + 3
    effects = attacker.says(victim, attacker.update(ahead, value=2.0, entry_leaf=leaf))
    assert misbehaviour(effects) == ["ReusedEntry"]


def test_an_update_that_overtakes_its_senders_approval_is_kept_for_later() -> None:
    story = begin(terms=FIVE)
    *honest, last = story.sites
    story.approve(*honest)
    story.boot(*honest)
    story.wait(0.001)
    victim, early = honest[0], Attacker(story, last)
    run = victim.core.runs[story.study]
    assert story.runs_until(lambda: run.phase is Phase.GATHERING)
    effects = early.says(victim, early.update(0))
    assert not of(fx.Obtain, effects)
    assert misbehaviour(effects) == []
    assert of(fx.Obtain, early.says(victim, early.decision()))


def test_a_site_that_revoked_is_not_averaged_with() -> None:
    _, victim, attacker = gathering()
    attacker.says(victim, attacker.update(0))
    attacker.says(victim, attacker.decision(Decision.REVOKED, seq=1))
    assert misbehaviour(attacker.says(victim, attacker.update(1))) == ["NotANeighbour"]
    attacker.says(victim, attacker.decision(seq=2))
    assert of(fx.Obtain, attacker.says(victim, attacker.update(1)))


def test_updates_for_a_study_this_site_left_are_nobodys_fault() -> None:
    story, victim, attacker = gathering()
    revoked = kinds.StudyRevoked(story.study, "owner-withdrew").draft("data-owner")
    story.world.command(victim, revoked)
    story.wait(0.05)
    assert not attacker.says(victim, attacker.update(1))
    assert victim.core.refused[attacker.site.id, "NotTakingPart"] == 1
