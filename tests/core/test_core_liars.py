"""Members that lie about their logs, about studies and about decisions, or talk too much."""

from dataclasses import replace

import numpy as np
import pytest
from core_attackers import FIVE, Attacker, attacked, digest, drafts, gathering, misbehaviour, of
from core_worlds import PRIVATE, Story, approval, begin

from gossip.identifiers import SiteId
from gossip.messages import Decision, HeadAdvertised, Inventory, StudyProposal
from ledger.log import Checkpoint, Signer, note_sign, origin_of
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.governance import PROPOSALS_PER_SITE_MAX
from p2pfl.core.names import StudyId
from p2pfl.core.participants import UNKNOWN_STUDIES_MAX
from simulations.site import CONSORTIUM, SimulatedSite

# -- heads -------------------------------------------------------------------------------------


def forged(attacker: Attacker, victim: SimulatedSite) -> dict[str, bytes]:
    """Heads that are wrong in one way each."""
    own = attacker.site.ledger.identity.origin
    other = victim.ledger.identity.origin
    text = Checkpoint(own, 100, digest("root")).text
    return {
        "another key": note_sign(text, own, Signer(victim.keys.log)),
        "another log": note_sign(
            Checkpoint(other, 100, digest("root")).text, own, Signer(attacker.site.keys.log)
        ),
        "garbage": b"\xff\x00 garbage",
        "no note": b"hello\n",
        "too small": attacker.head(size=1),
    }


@pytest.mark.parametrize("which", ["another key", "another log", "garbage", "no note", "too small"])
def test_an_update_with_a_bad_head_is_refused(which: str) -> None:
    _, victim, attacker = gathering()
    head = forged(attacker, victim)[which]
    effects = attacker.says(victim, attacker.update(0, head=head, entry_seq=5))
    # A key that is not known may just have been put in force: refused, but nobody is to blame.
    assert misbehaviour(effects) == ([] if which == "another key" else ["BadHead"])
    assert not of(fx.HeadHeard, effects)
    assert not of(fx.Obtain, effects)


def test_only_newer_heads_are_kept() -> None:
    _, victim, attacker = gathering()
    sizes = [5, 3, 5, 7]
    kept = [
        effect.size
        for size in sizes
        for effect in attacker.says(victim, HeadAdvertised(attacker.head(size)))
        if isinstance(effect, fx.HeadHeard)
    ]
    assert kept == [5, 7]


def test_two_heads_of_one_size_are_a_fork() -> None:
    _, victim, attacker = gathering()
    attacker.tells(victim, HeadAdvertised(attacker.head(50)))
    other = HeadAdvertised(attacker.head(50, digest("other root")))
    effects = attacker.says(victim, other)
    assert misbehaviour(effects) == ["ForkedHead"]
    assert of(fx.HeadHeard, effects), "the evidence has to be kept"


def test_a_head_of_another_consortium_is_refused() -> None:
    _, victim, attacker = gathering()
    origin = origin_of("elsewhere", attacker.site.ledger.identity.log_id)
    assert origin != origin_of(CONSORTIUM, attacker.site.ledger.identity.log_id)
    text = Checkpoint(origin, 9, digest("root")).text
    note = note_sign(text, origin, Signer(attacker.site.keys.log))
    assert misbehaviour(attacker.says(victim, HeadAdvertised(note))) == ["BadHead"]


# -- proposals and decisions -------------------------------------------------------------------


def proposal(story: Story, number: int) -> StudyProposal:
    """A sound manifest of its own."""
    raw = story.manifest.raw.replace(b'"simulated"', f'"study-{number}"'.encode())
    assert raw != story.manifest.raw
    return StudyProposal(raw, b"")


def inviting_another(story: Story, site: SimulatedSite) -> bytes:
    """The manifest with a stranger in the place of a site."""
    known = site.id.hex()
    stranger = known[:-1] + ("0" if known[-1] != "0" else "1")
    return story.manifest.raw.replace(known.encode(), stranger.encode())


def test_a_flood_of_bad_manifests_is_put_on_record_sparingly() -> None:
    _, victim, attacker = gathering()
    effects = [
        effect
        for number in range(1_000)
        for effect in attacker.says(victim, StudyProposal(b"x = %d" % number, b""))
    ]
    bodies = drafts(effects, kinds.PeerMisbehaved)
    assert [(b["reason"], b["count"]) for b in bodies] == [
        ("BadManifest", 1),
        ("BadManifest", 10),
        ("BadManifest", 100),
        ("BadManifest", 1000),
    ]
    assert not of(fx.KeepProposal, effects)


def test_what_a_peer_wrote_cannot_steer_a_terminal() -> None:
    _, victim, attacker = gathering()
    raw = b'[study]\n"\\u001b[2Jevil' + b"y" * 5_000 + b'" = 1\n'
    effects = attacker.says(victim, StudyProposal(raw, b""))
    shown = [e.notice for e in effects if isinstance(e, fx.Show)]
    assert len(shown) == 1
    assert isinstance(shown[0], fx.Happened)
    assert shown[0].sentence.isprintable()
    assert len(shown[0].sentence) < 400


def test_proposals_of_one_site_are_kept_up_to_a_limit_until_people_decide() -> None:
    story, victim, attacker = gathering()
    effects = [
        effect
        for number in range(PROPOSALS_PER_SITE_MAX + 20)
        for effect in attacker.says(victim, proposal(story, number))
    ]
    assert len(of(fx.KeepProposal, effects)) == PROPOSALS_PER_SITE_MAX
    assert misbehaviour(effects) == ["TooManyProposals"] * 2
    first = of(fx.KeepProposal, effects)[0]
    assert isinstance(first, fx.KeepProposal)
    refused = kinds.StudyRefused(first.study, "no-interest").draft("data-owner")
    story.world.command(victim, refused)
    story.wait(0.05)
    assert of(fx.KeepProposal, attacker.says(victim, proposal(story, 1_000)))


def test_a_known_proposal_and_one_for_others_are_passed_over_in_silence() -> None:
    story, victim, attacker = gathering()
    assert not attacker.says(victim, StudyProposal(story.manifest.raw, b""))
    without = inviting_another(story, victim)
    assert not attacker.says(victim, StudyProposal(without, b""))


def test_an_expired_proposal_is_refused() -> None:
    story, victim, attacker = gathering()
    raw = story.manifest.raw.replace(b"expires = 2027", b"expires = 2017")
    assert raw != story.manifest.raw
    assert misbehaviour(attacker.says(victim, StudyProposal(raw, b""))) == ["ExpiredProposal"]


def test_decisions_about_unknown_studies_are_kept_up_to_a_limit_the_newest_first() -> None:
    _, victim, attacker = gathering()
    studies = [digest("study", number) for number in range(500)]
    for seq, study in enumerate(studies):
        attacker.says(victim, replace(attacker.decision(seq=seq), study=study))
    known = [s for s in studies if victim.core.decisions.of(StudyId(s))]
    assert known == studies[-UNKNOWN_STUDIES_MAX:]


def test_an_older_decision_does_not_undo_a_newer_one() -> None:
    story, victim, attacker = gathering()
    attacker.says(victim, attacker.decision(Decision.REVOKED, seq=9))
    assert not attacker.says(victim, attacker.decision(seq=8))
    assert attacker.site.id not in victim.core.runs[story.study].gathering.buckets


def test_a_decision_of_a_site_that_was_not_invited_is_refused() -> None:
    story = begin(terms=FIVE)
    *honest, last = story.sites
    story.approve(*honest)
    story.boot(*honest)
    story.wait(0.001)
    outsider = Attacker(story, last)
    without = inviting_another(story, last)
    victim = honest[0]
    proposer = Attacker(story, honest[1])
    kept = of(fx.KeepProposal, proposer.says(victim, StudyProposal(without, b"")))
    assert kept
    assert isinstance(kept[0], fx.KeepProposal)
    message = replace(outsider.decision(), study=kept[0].study)
    assert misbehaviour(outsider.says(victim, message)) == ["NotInvited"]


def test_flipping_ones_decision_all_the_time_does_not_grow_the_ledger() -> None:
    _, victim, attacker = gathering()
    size = len(victim.ledger.entries)
    for seq in range(1, 200):
        decision = Decision.REVOKED if seq % 2 else Decision.APPROVED
        effects = attacker.says(victim, attacker.decision(decision, seq))
        assert not of(fx.Append, effects)
    assert len(victim.ledger.entries) == size


def test_a_site_without_patients_takes_no_part() -> None:
    story, victim, attacker = gathering()
    attacker.says(victim, attacker.decision(seq=1, bucket=0))
    assert attacker.site.id not in victim.core.runs[story.study].gathering.buckets


# -- everything else ---------------------------------------------------------------------------


def test_what_a_stranger_signed_is_ignored() -> None:
    story, victim, attacker = gathering()
    stranger = SiteId(digest("stranger"))
    message = attacker.update(0)
    assert not victim.core.handle(story.world.now_s, ev.Delivered(stranger, message))
    assert not victim.core.handle(story.world.now_s, ev.Delivered(victim.id, message))


def test_reconciliation_means_nothing_to_the_core() -> None:
    _, victim, attacker = gathering()
    assert not attacker.says(victim, Inventory(()))


def test_refusals_below_the_core_are_counted_and_named() -> None:
    story, victim, attacker = gathering()
    refused = ev.PeerRefused(attacker.site.id, "BadSignature")
    effects = [
        effect for _ in range(100) for effect in victim.core.handle(story.world.now_s, refused)
    ]
    assert misbehaviour(effects) == ["BadSignature"] * 3
    stranger = ev.PeerRefused(SiteId(digest("stranger")), "Garbled")
    shown = victim.core.handle(story.world.now_s, stranger)
    assert any(stranger.site.hex()[:8] in str(effect) for effect in shown)


def test_a_poisoned_model_within_the_rules_does_not_move_the_others_far() -> None:
    story, _victim, attacker = attacked()
    for site in story.sites[:-1]:
        for round_ in range(3):
            attacker.tells(site, attacker.update(round_, value=1e9))
    assert story.completes(*story.sites[:-1])
    used = story.records(story.sites[0], kinds.AggDone)
    assert any(attacker.site.id in {x.site for x in record.inputs} for record in used)
    for site in story.sites[:-1]:
        assert float(np.abs(site.model(site.released[story.study])).max()) < 100


def test_a_second_study_of_the_same_sites_keeps_to_itself() -> None:
    story, victim, attacker = gathering()
    message = proposal(story, 1)
    effects = attacker.says(victim, message)
    kept = of(fx.KeepProposal, effects)[0]
    assert isinstance(kept, fx.KeepProposal)
    draft = approval(victim, kept.manifest, story.seed, PRIVATE)
    story.world.command(victim, draft)
    story.wait(0.01)
    assert len(victim.core.runs) == 2
    attacker.says(victim, replace(attacker.decision(seq=3), study=kept.study))
    leaf = attacker.update(0).entry_leaf
    attacker.says(victim, attacker.update(0))
    other = attacker.update(0, value=2.0, study=kept.study, entry_leaf=leaf)
    assert misbehaviour(attacker.says(victim, other)) == ["ReusedEntry"]
