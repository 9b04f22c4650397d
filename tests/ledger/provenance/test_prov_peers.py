"""What other sites hold, compared with a log: each rule finds what it is for, and no more."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from prov_consortium import Consortium
from prov_site import Site
from prov_stories import DAY_US, codes, digest, is_clean
from prov_teller import TERMS, Plan, approve, train

from ledger.log import ExitCode, Signer, Verification, note_sign
from ledger.log.findings import Finding, FindingCode
from ledger.log.identity import Previous
from ledger.provenance.audit import AuditReport
from ledger.provenance.findings import DpEvent
from ledger.provenance.kinds import (
    ClockAnomaly,
    ModelAdopted,
    ModelReleased,
    PolicyChanged,
    RosterChanged,
    StudyProposed,
    StudySteered,
    UpdatePublished,
    UpdateReceived,
)
from ledger.provenance.peers import (
    CardSeen,
    Cosigned,
    HeldHead,
    PeerEvidence,
    PeerLog,
    ProvenFork,
    Voucher,
    held_head,
)
from ledger.provenance.timeline import Timeline

STUDY = digest("study", 0)
NOBODY = digest("nobody")
MINUTE_US = 60_000_000


def small_world() -> Consortium:
    """Two sites; both trained one round, the first received the second's update."""
    world = Consortium(3, sites=2)
    for site in world.sites:
        site.skew_us = 0
        site.tell(StudyProposed(STUDY, world.sites[0].id))
        ds = site.register(0, 8_000_000)
        approval = approve(site, ds, STUDY, TERMS, 2, world.now_us + 90 * DAY_US)
        assert approval is not None
        site.open[STUDY] = Plan(approval, 2, 0, (), digest("initial"))
        train(site, site.open[STUDY], 0)
    return world


@pytest.fixture
def world() -> Consortium:
    return small_world()


def settled(world: Consortium) -> Consortium:
    world.wait(DAY_US)
    world.witness()
    world.wait(DAY_US)
    return world


def audit_with(world: Consortium, **changes: object) -> AuditReport:
    site = world.sites[0]
    return world.audit(site, replace(world.evidence(site), **changes))


def found(report: AuditReport, code: str) -> str:
    return next(x.sentence for x in report.findings if x.code == code)


def notes_of(report: AuditReport, check: str) -> str:
    return " ".join(next(x.notes for x in report.checks if x.id == check))


# -- the own history -------------------------------------------------------------------------------


def test_two_honest_sites_agree(world: Consortium) -> None:
    assert is_clean(audit_with(settled(world)))


def test_without_any_head_the_report_says_so(world: Consortium) -> None:
    assert "No other site's signed head" in notes_of(audit_with(world), "history")


def test_a_log_whose_first_entry_cannot_be_read_is_no_second_finding(world: Consortium) -> None:
    assert "log.replaced" not in codes(audit_with(world, identity=None))


def test_a_site_that_is_on_no_roster_is_told(world: Consortium) -> None:
    world.names = {NOBODY: "Nobody"}
    assert "is on no roster" in found(audit_with(world), "log.replaced")


def test_another_log_key_on_the_roster_is_told(world: Consortium) -> None:
    log_id = world.sites[0].book.identity.log_id
    cards = (CardSeen(world.sites[1].id, log_id, NOBODY),)
    assert "never had" in found(audit_with(world, cards=cards), "log.key_replaced")


def test_a_log_that_says_what_it_goes_on_from_is_no_stranger(world: Consortium) -> None:
    site = world.sites[0]
    went_on = replace(site.book.identity, previous=Previous(NOBODY, b"", 0))
    cards = (CardSeen(world.sites[1].id, NOBODY, NOBODY),)
    assert is_clean(audit_with(world, identity=went_on, cards=cards))
    assert "log.replaced" in codes(audit_with(world, cards=cards))


def receive(world: Consortium, **changes: object) -> UpdateReceived:
    """The second site records the first one's publication, perhaps wrongly."""
    writer, holder = world.sites
    record = holder.take(STUDY, 0, writer, "late")
    lied = replace(record, **changes)
    holder.tell(lied)
    return lied


def test_what_another_site_received_from_beyond_the_end_is_lost_here(world: Consortium) -> None:
    receive(world, from_seq=999)
    report = audit_with(world)
    assert report.exit_code is ExitCode.ROLLBACK
    assert "ends after" in found(report, "log.behind")


def test_what_another_site_received_must_stand_here(world: Consortium) -> None:
    receive(world, from_leaf=NOBODY)
    assert "is another one" in found(audit_with(world), "log.disputed")


def test_a_proof_of_a_fork_is_repeated(world: Consortium) -> None:
    fork = ProvenFork("K3", NOBODY, "two entries.")
    report = audit_with(world, forks=(fork,))
    assert report.exit_code is ExitCode.FORK_PROVEN
    assert "K3" in found(report, "fork.proven")


def test_a_site_that_vouches_for_itself_bounds_nothing(world: Consortium) -> None:
    site = world.sites[0]
    settled(world)
    (head,) = world.sites[1].held.values()
    own = replace(head, cosigned=(Cosigned(site.id, 1),))
    report = audit_with(world, heads=(own,))
    assert next(x.count for x in report.checks if x.id == "bounds") == 0


def test_a_site_whose_own_clock_was_wrong_accuses_nobody(world: Consortium) -> None:
    witness = world.sites[1]
    settled(world)
    (head,) = world.sites[1].held.values()
    early = replace(head, cosigned=(Cosigned(witness.id, 1),))
    assert "clock.future" in codes(audit_with(world, heads=(early,)))
    witness.tell(ClockAnomaly(-400_000_000))
    assert is_clean(audit_with(world, heads=(early,), logs=(world.log_of(witness),)))


def vouched(world: Consortium, holder: int, note: bytes, late_us: int) -> HeldHead:
    """The first site's head as another one cosigned it, so long after now."""
    site = world.sites[holder]
    site.now_us += late_us
    head = world.cosigned(world.sites[0], site, note)
    site.now_us -= late_us
    return head


def test_a_witness_that_was_cut_off_vouches_late_and_accuses_nobody() -> None:
    """It cosigns an old head while another site has long seen what came after it."""
    world = Consortium(7)
    writer = world.sites[0]
    writer.tell(RosterChanged(1, NOBODY, 3))
    old = writer.book.note
    writer.tell(PolicyChanged(NOBODY))
    in_time, late = (
        vouched(world, 1, writer.book.note, 0),
        vouched(world, 2, old, 8 * MINUTE_US),
    )
    assert "clock.backdated" in codes(audit_with(world, heads=(late,), logs=()))
    assert is_clean(audit_with(world, heads=(in_time, late), logs=()))
    world.close()


def test_one_wrong_clock_among_many_is_a_remark_and_two_are_a_finding() -> None:
    world = Consortium(8, sites=4)
    writer = world.sites[0]
    writer.tell(RosterChanged(1, NOBODY, 4))
    note = writer.book.note
    ahead, behind = (
        vouched(world, holder, note, by_us)
        for holder, by_us in ((1, 8 * MINUTE_US), (2, -8 * MINUTE_US))
    )
    right = vouched(world, 3, note, 0)
    writer.tell(PolicyChanged(NOBODY))
    members = frozenset((NOBODY, *(site.id for site in world.sites[1:])))
    for wrong, code in ((ahead, "clock.backdated"), (behind, "clock.future")):
        report = audit_with(world, heads=(wrong, right), logs=(), members=members)
        assert is_clean(report)
        assert "one of those clocks may have been wrong" in notes_of(report, "bounds")
        both = (wrong, replace(wrong, cosigned=(replace(wrong.cosigned[0], witness=NOBODY),)))
        assert code in codes(audit_with(world, heads=both, logs=(), members=members))
    world.close()


# -- the copies ------------------------------------------------------------------------------------


def damaged(log: PeerLog) -> PeerLog:
    finding = Finding(FindingCode.ENTRY_ALTERED, 3, "entry 3")
    return replace(log, verification=Verification((finding,), log.size, None))


def test_a_damaged_copy_is_named_and_accuses_nobody(world: Consortium) -> None:
    receive(world, from_leaf=NOBODY)
    log = damaged(world.log_of(world.sites[1]))
    report = audit_with(world, logs=(log,))
    assert codes(report) == {"peer.damaged"}
    assert report.exit_code is ExitCode.EVIDENCE_INCOMPLETE


def test_what_cannot_be_read_leaves_the_evidence_incomplete(world: Consortium) -> None:
    report = audit_with(world, problems=("x.db cannot be read.",))
    assert codes(report) == {"peer.unreadable"}


def test_members_whose_ledgers_are_not_at_hand_are_named(world: Consortium) -> None:
    assert "No ledger at hand of Bern" in notes_of(audit_with(world, logs=()), "copies")


def test_a_rewritten_ledger_of_another_site_is_a_proven_fork(world: Consortium) -> None:
    settled(world)
    log = world.log_of(world.sites[1])
    lied = replace(log, leaves=(NOBODY, *log.leaves[1:]))
    assert "is not the one" in found(audit_with(world, logs=(lied,)), "peer.rewritten")


# -- what was sent ---------------------------------------------------------------------------------


def told(world: Consortium, **changes: object) -> AuditReport:
    """The first site records the second one's publication, perhaps wrongly."""
    writer, sender = world.sites[0], world.sites[1]
    sent = sender.published[STUDY, 0]
    record = UpdateReceived(
        STUDY, 0, sender.id, sent.seq, sent.leaf, sent.head, sent.hash, "late", ""
    )
    writer.tell(replace(record, **changes))
    return audit_with(world)


def test_a_receipt_that_names_another_entry_is_told(world: Consortium) -> None:
    leaf = world.sites[1].book.entries[1].leaf
    report = told(world, from_seq=1, from_leaf=leaf)
    assert "published no such thing" in found(report, "receipt.unpublished")


def test_a_receipt_beyond_the_copy_is_counted(world: Consortium) -> None:
    world.wait(DAY_US)
    report = told(world, from_seq=500)
    assert "1 of 1 receipts" in notes_of(report, "sent")
    assert "peer.stale" not in codes(report)  # only just received: it may not have come here yet
    world.wait(DAY_US)
    assert "peer.stale" in codes(audit_with(world))


def test_a_publication_that_was_mirrored_as_a_hash_is_compared_by_it(world: Consortium) -> None:
    told(world)
    log = world.log_of(world.sites[1])
    shown = [e for e in world.sites[1].book.entries if e.kind != UpdatePublished.KIND]
    report = audit_with(world, logs=(replace(log, timeline=Timeline(shown)),))
    assert "by the entry's hash alone" in notes_of(report, "sent")
    assert "conduct was not looked at" in notes_of(report, "conduct")
    assert is_clean(report)


def steer(world: Consortium, proposer: Site, follower: Site, **changes: object) -> AuditReport:
    said = StudySteered(STUDY, 1, digest("message"), {"learning_rate": "0.25"}, -1)
    seq = proposer.tell(said)
    follower.tell(replace(said, **({"from_seq": seq} | changes)))
    return world.audit(follower)


def test_a_steering_stands_in_its_proposers_log(world: Consortium) -> None:
    proposer, follower = world.sites
    assert is_clean(steer(world, proposer, follower))
    assert is_clean(steer(world, proposer, follower, round=2))  # a site that is behind


@pytest.mark.parametrize(
    "changes", [{"round": 0}, {"changes": {"learning_rate": "9"}}, {"from_seq": 1}]
)
def test_a_steering_that_the_proposer_never_said_is_told(
    world: Consortium, changes: dict[str, object]
) -> None:
    proposer, follower = world.sites
    report = steer(world, proposer, follower, **changes)
    assert "says no such thing" in found(report, "steering.denied")


def adopt(world: Consortium, seq: int) -> AuditReport:
    """The first site's study goes on by statistics that the second one says it released."""
    released, follower = world.sites[1], world.sites[0]
    study, model = digest("study", 8), digest("statistics")
    entry = released.tell(ModelReleased(study, 0, model, "0", 1))
    follower.tell(ModelAdopted(STUDY, "standardise", model, study, released.id, entry + seq))
    return world.audit(follower)


def test_an_adopted_model_stands_in_the_log_of_the_site_that_released_it(
    world: Consortium,
) -> None:
    assert not [f for f in adopt(world, 0).findings if f.code.startswith("adoption")]


def test_an_adopted_model_that_nobody_released_is_told(world: Consortium) -> None:
    assert "which released no such model" in found(adopt(world, -1), "adoption.denied")


# -- conduct ---------------------------------------------------------------------------------------


def test_a_site_that_trained_unapproved_is_told_with_its_entry(world: Consortium) -> None:
    other = world.sites[1]
    stranger = digest("study", 9)
    other.tell(UpdatePublished(stranger, 0, NOBODY, 140, -1))
    report = audit_with(world)
    sentence = found(report, "peer.approval.missing")
    assert sentence.startswith("In the ledger of Bern, entry ")
    assert report.exit_code is ExitCode.RULE_VIOLATED


def test_an_accountant_that_cannot_say_accuses_no_other_site(world: Consortium) -> None:
    def refusing(events: Sequence[DpEvent], delta: float) -> float:
        raise ValueError("σ too small")

    site = world.sites[0]
    report = world.audit(site, accountant=refusing)
    assert codes(report) == {"budget.not_recomputed"}


# -- heads -----------------------------------------------------------------------------------------


def test_a_head_counts_under_its_logs_key_and_name_alone(world: Consortium) -> None:
    site, other = world.sites
    identity = site.book.identity

    def held(note: bytes) -> object:
        return held_head(note, identity, world.witnesses(), holder=other.id)

    assert held(site.book.note) is not None
    assert held(other.book.note) is None
    assert held(b"no note at all") is None
    text = other.book.note.decode().split("\n\n")[0] + "\n"
    assert held(note_sign(text, identity.origin, site.keys.log)) is None


def test_a_cosignature_counts_if_a_known_witness_made_it(world: Consortium) -> None:
    site, other = world.sites
    head = world.cosigned(site, other, site.book.note)
    assert [x.witness for x in head.cosigned] == [other.id]
    key = Signer(digest("stranger"))
    other.keys = replace(other.keys, witness=key)
    witnesses = {site.keys.witness.public_key: Voucher(site.id)}
    world.witnesses = lambda: witnesses  # type: ignore[method-assign]
    assert world.cosigned(site, other, site.book.note).cosigned == ()


def test_evidence_of_nothing_is_evidence(world: Consortium) -> None:
    assert PeerEvidence(world.sites[0].book.identity).log_of(NOBODY) is None
