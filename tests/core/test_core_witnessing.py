"""Sites that witness each other: honest ones never alarm, a fork is proved to everyone at once."""

from dataclasses import replace

import pytest
from core_witnesses import Hospital, Wires, alarms, note_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.witness_messages import (
    PLAIN,
    SEALED,
    CosignAnswered,
    CosignRequested,
    EntriesSent,
    EntriesWanted,
    ForkTold,
    HeadsHeld,
    LeavesSent,
    LeavesWanted,
    SentEntry,
    told_in_parts,
)
from ledger.log import Checkpoint, Signer, note_sign
from ledger.log.forks import check_fork, encode_fork, fork_digest, fork_of_heads
from ledger.log.witness_store import EntryForm
from p2pfl.core import events as ev
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.witnessing_terms import quorum
from simulations.memory_ledger import MemoryLedger


def newest_cosigned(one: Hospital) -> int:
    """How many sites cosigned the newest own head."""
    lines = one.book.own_cosigned.get(len(one.ledger.entries), ())
    return len({line.split()[1] for line in lines})  # whoever crashed may have cosigned twice


def test_every_head_is_cosigned_by_everybody_within_seconds() -> None:
    wires = Wires(4)
    wires.boot()
    wires.run(2.0)
    for one in wires.all:
        wires.record(one, 3)
    wires.run(3.0)
    assert [newest_cosigned(one) for one in wires.all] == [3, 3, 3, 3]
    assert all(newest_cosigned(one) >= quorum(4) for one in wires.all)
    for one in wires.all:
        for other in wires.all:
            if other is not one:
                log_id = one.ledger.identity.log_id
                assert other.book.mirrored_size(log_id) == len(one.ledger.entries)
    assert alarms(wires) == []


def test_many_entries_at_once_are_mirrored_in_pieces() -> None:
    wires = Wires(2)
    wires.boot()
    wires.run(1.0)
    wires.record(wires.all[0], 2_500)
    wires.run(5.0)
    log_id = wires.all[0].ledger.identity.log_id
    assert wires.all[1].book.mirrored_size(log_id) == len(wires.all[0].ledger.entries)
    assert alarms(wires) == []


def test_nothing_of_the_own_log_is_shown_before_a_peers_word() -> None:
    wires = Wires(3)
    alone = wires.all[0]
    wires.boot(alone)
    wires.record(alone)
    wires.run(30.0)
    assert alone.learned == []
    wires.boot(*wires.all[1:])
    wires.run(0.02)
    shown = (CosignRequested, LeavesSent, EntriesSent)
    assert not any(isinstance(m, shown) for other in wires.all[1:] for m in other.wire)
    wires.run(2.0)
    assert alone.facts(ev.OwnLogConfirmed)
    assert newest_cosigned(alone) == 2


def test_an_operator_may_go_on_without_a_word_and_it_is_told_once() -> None:
    wires = Wires(3)
    wires.boot(wires.all[0])
    process = wires.all[0].process
    assert process is not None
    assert process.go_on_offline() == [terms.Learned(ev.OfflineStart())]
    assert process.go_on_offline() == []


def test_a_restored_old_home_shows_nothing_and_says_so() -> None:
    wires = Wires(3)
    wires.boot()
    wires.run(1.0)
    old = wires.all[0]
    wires.record(old, 5)
    wires.run(3.0)
    wires.crash(old)
    whole = len(old.ledger.entries)
    old.ledger.cut(whole - 4)
    wires.record(old, 1)  # a person's command on the restored home
    for other in wires.all:
        other.wire.clear()
    wires.boot(old)
    wires.run(5.0)
    assert old.facts(ev.OwnLogBehind) == [ev.OwnLogBehind(whole)] * len(old.facts(ev.OwnLogBehind))
    assert old.facts(ev.OwnLogBehind)
    shown = (CosignRequested, LeavesSent, EntriesSent)
    for other in wires.all[1:]:
        assert not [m for m in other.wire if isinstance(m, shown)][3:], "only the others' own"
        assert not other.facts(ev.ForkFound)
    requests = [m for other in wires.all[1:] for m in other.wire if isinstance(m, CosignRequested)]
    assert not any(old.ledger.identity.origin.encode() in m.request for m in requests)


def test_the_book_alone_tells_of_a_log_that_lost_its_end() -> None:
    wires = Wires(2)
    wires.boot()
    wires.run(1.0)
    old = wires.all[0]
    wires.record(old, 3)
    wires.run(2.0)
    wires.crash(old)
    old.ledger.cut(len(old.ledger.entries) - 1)
    wires.boot(old)
    wires.run(2.0)
    wires.crash(old)
    wires.crash(wires.all[1])
    old.learned.clear()
    wires.boot(old)  # nobody else is there now
    assert old.facts(ev.OwnLogBehind)


def forked(one: Hospital, size: int, seed: int) -> MemoryLedger:
    """A second history of a site's log: the same up to `size` entries, then others."""
    keys = one.site.keys
    other = MemoryLedger(
        deployment=one.ledger.identity.deployment,
        identity=Signer(keys.identity),
        log=Signer(keys.log),
        witness_pk=Signer(keys.witness).public_key,
        nonce=one.ledger.identity.nonce,
    )
    other.entries[:] = one.ledger.entries
    other.cut(size)
    other.append([note_of(1000 + seed)], (), 0)
    return other


@pytest.mark.parametrize("extra", [0, 3])
def test_a_fork_shown_to_two_peers_is_proved_everywhere_within_seconds(extra: int) -> None:
    wires = Wires(4)
    wires.boot()
    wires.run(2.0)
    liar, one, other = wires.all[0], wires.all[1], wires.all[2]
    second = forked(liar, len(liar.ledger.entries), extra)
    wires.cut = {frozenset((liar.site.id, h.site.id)) for h in wires.all[2:]}
    wires.record(liar, 1 + extra)
    wires.run(2.0)
    # The other side sees the second history, and then those two meet.
    assert other.process is not None
    seen = terms.HeadSeen(liar.ledger.identity.log_id, second.note)
    other.process.handle(wires.now_s, seen)
    wires.crash(other)
    wires.boot(other)
    wires.run(3.0)
    for honest in wires.all[1:]:
        (found,) = honest.facts(ev.ForkFound)
        assert isinstance(found, ev.ForkFound)
        assert found.log_id == liar.ledger.identity.log_id
        (proof,) = honest.book.forks()
        assert check_fork(proof).log_id == found.log_id
    assert liar.facts(ev.ForkFound), "the site itself learns that its log is frozen"
    assert liar.process is not None
    assert liar.process.is_stopped
    before = [newest_cosigned(liar)]
    wires.record(liar, 1)
    wires.run(5.0)
    assert [newest_cosigned(liar)] == [0], before
    assert len(one.book.forks()) == len(wires.all[3].book.forks()) == 1


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    loss=st.sampled_from([0.0, 0.1, 0.4]),
    crashes=st.sets(st.integers(1, 400), max_size=8),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12),
)
def test_honest_worlds_never_alarm(
    seed: int, loss: float, crashes: set[int], steps: list[tuple[int, int]]
) -> None:
    wires = Wires(4, seed=seed, loss=loss)
    wires.crash_at = crashes
    wires.boot()
    for who, what in steps:
        one, other = wires.all[who], wires.all[what]
        if one is other:
            wires.cut.clear()
        else:
            wires.cut ^= {frozenset((one.site.id, other.site.id))}
        wires.record(one, 1 + what)
        wires.run(1.5)
    wires.cut.clear()
    wires.crash_at = set()
    wires.run(40.0)
    assert alarms(wires) == []
    if loss == 0.0:
        assert all(newest_cosigned(one) == 3 for one in wires.all)


def test_entries_go_in_plain_only_to_whom_their_kind_names() -> None:
    wires = Wires(3)
    wires.boot()
    wires.run(2.0)
    owner, asker = wires.all[0], wires.all[1]
    assert owner.process is not None
    log_id, size = owner.ledger.identity.log_id, len(owner.ledger.entries)
    asked = terms.Said(asker.site.id, EntriesWanted(log_id, 0, size))
    (tell,) = owner.process.handle(wires.now_s, asked)
    assert isinstance(tell, terms.Tell)
    assert isinstance(tell.message, EntriesSent)
    for item, entry in zip(tell.message.items, owner.ledger.entries, strict=True):
        is_public = entry.kind == "log.genesis"
        assert (item.form, item.data == entry.raw) == (PLAIN if is_public else SEALED, is_public)


def test_entries_are_mirrored_and_given_back_to_their_own_site_alone() -> None:
    wires = Wires(3)
    wires.boot()
    wires.run(2.0)
    owner, mirror, other = wires.all
    wires.record(owner, 300)
    wires.run(6.0)
    log_id, size = owner.ledger.identity.log_id, len(owner.ledger.entries)
    held = list(mirror.book.entries(log_id))
    assert [entry.seq for entry in held] == list(range(size))
    forms = {entry.form for entry in held}
    assert forms == {EntryForm.PLAIN, EntryForm.SEALED}
    assert mirror.process is not None
    wanted = EntriesWanted(log_id, 5, size)
    (given,) = mirror.process.handle(wires.now_s, terms.Said(owner.site.id, wanted))
    assert isinstance(given, terms.Tell)
    assert isinstance(given.message, EntriesSent)
    assert [item.seq for item in given.message.items] == list(range(5, 5 + terms.TERMS.entries))
    assert mirror.process.handle(wires.now_s, terms.Said(other.site.id, wanted)) == []
    leaves = LeavesWanted(log_id, 0, size)
    (shown,) = mirror.process.handle(wires.now_s, terms.Said(other.site.id, leaves))
    expected = b"".join(entry.leaf for entry in owner.ledger.entries)
    assert isinstance(shown, terms.Tell)
    assert shown.message == LeavesSent(log_id, 0, expected)
    assert alarms(wires) == []


def test_entries_of_a_log_come_from_its_own_site_alone_and_lie_under_its_head() -> None:
    wires = Wires(3)
    wires.boot()
    wires.run(3.0)
    owner, mirror, other = wires.all
    process, log_id = mirror.process, owner.ledger.identity.log_id
    assert process is not None
    held, size = list(mirror.book.entries(log_id)), len(owner.ledger.entries)
    sent = EntriesSent(log_id, size, (SentEntry(size, SEALED, b"x"),))
    assert process.handle(wires.now_s, terms.Said(owner.site.id, sent)) == []
    assert process.handle(wires.now_s, terms.Said(other.site.id, sent)) == []
    assert list(mirror.book.entries(log_id)) == held
    mirror.book.forget_entries(log_id)
    wires.crash(mirror)
    wires.boot(mirror)
    for frozen in wires.all:
        wires.cut.add(frozenset((mirror.site.id, frozen.site.id)))
    wires.run(0.1)
    wrong = EntriesSent(log_id, 0, (SentEntry(0, PLAIN, other.ledger.entries[0].raw),))
    process = mirror.process
    assert process is not None
    (refused,) = process.handle(wires.now_s, terms.Said(owner.site.id, wrong))
    assert refused == terms.Learned(ev.PeerRefused(owner.site.id, "BadLeaves"))
    assert list(mirror.book.entries(log_id)) == []


def test_nothing_hostile_raises_or_is_believed() -> None:
    wires = Wires(3)
    wires.boot()
    wires.run(2.0)
    one, peer = wires.all[0], wires.all[1]
    process = one.process
    assert process is not None
    own, theirs = one.ledger.identity, peer.ledger.identity
    hostile = [
        CosignRequested(b"garbage", 0, b""),
        CosignRequested(b"old 0\n\n" + one.ledger.note, 0, b""),
        CosignAnswered("another", 1, bytes(32), 200, b""),
        CosignAnswered(own.origin, 1, bytes(32), 200, b"x"),
        CosignAnswered(own.origin, 10**9, bytes(32), 409, b"5"),
        CosignAnswered(own.origin, 1, one.ledger.entries[0].leaf, 409, b"nonsense"),
        CosignAnswered(own.origin, 1, one.ledger.entries[0].leaf, 200, b"no signature"),
        HeadsHeld((b"no note",)),
        HeadsHeld((b"", b"no note")),
        HeadsHeld((peer.ledger.note,)),
        ForkTold(bytes(32), 0, 1, b"no proof"),
    ]
    for message in hostile:
        outputs = process.handle(wires.now_s, terms.Said(peer.site.id, message))
        rules = [o.event for o in outputs if isinstance(o, terms.Learned)]
        assert [type(event) for event in rules] == [ev.PeerRefused], message
    ignored = [LeavesSent(own.log_id, 0, bytes(64)), LeavesSent(theirs.log_id, 99, bytes(64))]
    for message in (*ignored, LeavesWanted(bytes(32), 0, 5)):
        assert process.handle(wires.now_s, terms.Said(peer.site.id, message)) == []
    assert not process.is_stopped


def test_a_member_is_heard_about_heads_no_more_often_than_honest_sites_tell_them() -> None:
    """Each of them costs the book a comparison and the disk a commit, and the others their turn."""
    wires = Wires(3)
    wires.boot()
    wires.run(2.0)
    one, flood, honest = wires.all
    process = one.process
    assert process is not None
    origin, signer = flood.ledger.identity.origin, Signer(flood.site.keys.log)
    size, refused = 10**6, 0
    for _ in range(500):
        size += 1
        note = note_sign(Checkpoint(origin, size, bytes(32)).text, origin, signer)
        outputs = process.handle(wires.now_s, terms.Said(flood.site.id, HeadsHeld((b"", note))))
        rules = [o.event for o in outputs if isinstance(o, terms.Learned)]
        refused += rules == [ev.PeerRefused(flood.site.id, "TooManyHeads")]
    held = one.book.head_of(flood.ledger.identity.log_id)
    assert held is not None
    assert held.size <= 10**6 + terms.TERMS.hear_burst
    assert refused >= 500 - terms.TERMS.hear_burst
    before = len(alarms(wires))
    said = terms.Said(honest.site.id, HeadsHeld((b"", honest.ledger.note)))
    process.handle(wires.now_s, said)
    process.handle(wires.now_s, terms.Members(wires.roster))
    wires.run(60.0)
    assert len(alarms(wires)) == before
    later = process.handle(wires.now_s, terms.Said(flood.site.id, HeadsHeld((b"", note))))
    assert not [output for output in later if isinstance(output, terms.Learned)]


def test_a_proof_under_keys_of_nobodys_proves_nothing() -> None:
    wires, strangers = Wires(3), Wires(3, seed=9)
    wires.boot()
    wires.run(1.0)
    stranger = strangers.all[0]
    key = replace(stranger.ledger.identity).verifier_key
    proof = fork_of_heads(key, forked(stranger, 1, 1).note, forked(stranger, 1, 2).note)
    assert proof is not None
    process = wires.all[0].process
    assert process is not None
    data = encode_fork(proof)
    (part,) = told_in_parts(fork_digest(data), data)
    told = terms.Said(wires.all[1].site.id, part)
    (refused,) = process.handle(wires.now_s, told)
    assert refused == terms.Learned(ev.PeerRefused(wires.all[1].site.id, "BadForkProof"))
    assert wires.all[0].book.forks() == ()


def test_a_mirror_is_served_at_a_bounded_rate() -> None:
    wires = Wires(2)
    wires.boot()
    wires.run(2.0)
    owner, asker = wires.all
    assert owner.process is not None
    wanted = terms.Said(asker.site.id, LeavesWanted(owner.ledger.identity.log_id, 0, 3))
    served = sum(len(owner.process.handle(wires.now_s, wanted)) for _ in range(200))
    assert served <= terms.TERMS.serve_burst
