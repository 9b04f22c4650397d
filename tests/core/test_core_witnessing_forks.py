"""A fork of the own log, a witness that lies, a liar at the start-up gate."""

from pathlib import Path

import pytest
from core_witnesses import START_S, Hospital, Wires, core_of, note_of, witnessing
from test_core_witnessing import forked

from gossip.witness_messages import ForkTold, HeadsHeld, told_in_parts
from ledger.log import Checkpoint, Draft, Signer, cosign
from ledger.log.entries import sign_entry
from ledger.log.fork_proofs import EntriesOfOneNumber, ForkKind, fork_digest
from ledger.log.forks import (
    check_fork,
    encode_fork,
    fork_of_cosignatures,
    fork_of_entries,
    fork_of_heads,
)
from ledger.log.witness_store import WitnessDatabase
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.history import History
from p2pfl.core.node import NodeCore
from p2pfl.core.witnessing import Witnessing
from p2pfl.core.witnessing_forks import PARTIAL_PER_SITE_MAX
from simulations.memory_ledger import MemoryView


def process_of(one: Hospital) -> Witnessing:
    assert one.process is not None
    return one.process


def proof_against(one: Hospital) -> bytes:
    """Two heads of one size under the log's key."""
    size = len(one.ledger.entries)
    pair = [forked(one, size, seed).note for seed in (1, 2)]
    proof = fork_of_heads(one.ledger.identity.verifier_key, *pair)
    assert proof is not None
    return encode_fork(proof)


def tell(wires: Wires, teller: Hospital, one: Hospital, proof: bytes) -> list[terms.WitnessOutput]:
    outputs = []
    for part in told_in_parts(fork_digest(proof), proof):
        said = terms.Said(teller.site.id, part)
        outputs += process_of(one).handle(wires.now_s, said)
    return outputs


def learned(outputs: list[terms.WitnessOutput], kind: type) -> list[object]:
    events = [output.event for output in outputs if isinstance(output, terms.Learned)]
    return [event for event in events if isinstance(event, kind)]


def kept(outputs: list[terms.WitnessOutput]) -> list[str]:
    return [output.file for output in outputs if isinstance(output, terms.ForkKept)]


# --- the own log --------------------------------------------------------------------------------


def test_a_fork_of_the_own_log_is_its_last_entry_and_nothing_is_released_any_more() -> None:
    wires = Wires(2)
    one = wires.all[0]
    core = core_of(one, wires)
    log_id = bytes(one.ledger.identity.log_id)
    found = ev.ForkFound(log_id, "K1", bytes(32), "forks/0001-K1-00.fork")
    freeze, shown = core.handle(START_S, found)
    assert freeze == fx.Freeze(None, "K1", bytes(32))
    assert isinstance(shown, fx.Show)
    assert isinstance(shown.notice, fx.Happened)
    assert shown.notice.name == "own_log_forked"
    assert "forks/0001-K1-00.fork" in shown.notice.sentence
    assert "p2pfl ledger new-incarnation" in shown.notice.sentence
    assert core.own_log is ev.OwnLog.READ_ONLY
    (entry,) = one.ledger.append((kinds.ForkFound(log_id, "K1", bytes(32)).draft("node"),), (), 0)
    assert core.handle(START_S, ev.Appended((entry,), one.ledger.note)) == [], "no head is offered"
    assert core.handle(START_S, found) == []


def test_a_log_whose_fork_is_on_record_is_closed_from_the_start_on() -> None:
    wires = Wires(2)
    one = wires.all[0]
    frozen = kinds.ForkFound(bytes(one.ledger.identity.log_id), "K2", bytes(32)).draft("node")
    one.ledger.append((frozen,), (), 0)
    core = NodeCore(one.site.id, wires.roster, History(one.ledger.entries))
    begun = ev.Begin((), frozenset(), one.ledger.note, ev.OwnLog.UNCONFIRMED)
    (shown,) = core.handle(START_S, begun)
    assert isinstance(shown, fx.Show)
    assert core.own_log is ev.OwnLog.READ_ONLY
    assert core.handle(START_S, ev.OwnLogConfirmed()) == []
    assert core.own_log is ev.OwnLog.READ_ONLY
    assert core.handle(START_S, ev.ForkFound(bytes(one.ledger.identity.log_id), "K2", b"p")) == []


def test_a_log_that_lost_its_end_records_nothing_about_its_fork() -> None:
    wires = Wires(2)
    one = wires.all[0]
    core = core_of(one, wires)
    core.handle(START_S, ev.OwnLogBehind(10))
    found = ev.ForkFound(bytes(one.ledger.identity.log_id), "K1", bytes(32))
    assert core.handle(START_S, found) == []


# --- a witness that lies ------------------------------------------------------------------------


def test_a_witness_that_cosigned_two_histories_is_accused_and_not_the_log() -> None:
    wires = Wires(3)
    one, owner, liar = wires.all
    core = core_of(one, wires)
    for about in (owner, one):  # also where it is this site's own log
        log_id = bytes(about.ledger.identity.log_id)
        found = ev.ForkFound(log_id, "K4", bytes(32), "forks/f", bytes(liar.site.id))
        effects = core.handle(START_S, found)
        (shown, *recorded) = effects
        assert isinstance(shown, fx.Show)
        assert isinstance(shown.notice, fx.Happened)
        assert shown.notice.name == "false_witness"
        drafts = [
            draft for effect in recorded if isinstance(effect, fx.Append) for draft in effect.drafts
        ]
        expected = kinds.ForkFound(log_id, "K4", bytes(32), bytes(liar.site.id)).draft("node")
        assert drafts == ([expected] if about is owner else []), "once"
    assert core.accused == frozenset()
    assert core.own_log is ev.OwnLog.CONFIRMED
    assert core.history.false_witnesses == {bytes(liar.site.id)}


def test_a_k4_of_a_former_member_is_on_record_without_a_name() -> None:
    wires = Wires(2)
    core = core_of(wires.all[0], wires)
    found = ev.ForkFound(bytes(32), "K4", bytes(32), "forks/f", b"")
    shown, appended = core.handle(START_S, found)
    assert isinstance(shown, fx.Show)
    assert isinstance(appended, fx.Append)


def lie_of(liar: Hospital, owner: Hospital) -> bytes:
    """A K4: the liar cosigned two heads of one size."""
    key = Signer(liar.site.keys.witness)
    name = terms.witness_name(liar.site.id)
    notes = []
    for seed in (1, 2):
        note = forked(owner, len(owner.ledger.entries), seed).note
        text = note[: note.index(b"\n\n") + 1].decode()
        notes.append(note + cosign(text, name, key, 1_800_000_000))
    card = owner.site.keys  # the owner's own signatures are there, too: a K4 needs none
    assert card is not None
    witness = terms.VerifierKey(name, terms.KeyType.COSIGNATURE_V1, key.public_key)
    proof = fork_of_cosignatures(witness, *notes)
    assert proof is not None
    return encode_fork(proof)


def test_an_accused_witness_gives_no_word_on_the_own_log() -> None:
    wires = Wires(3)
    one, owner, liar = wires.all
    one.book.put_fork(lie_of(liar, owner))
    wires.boot(one)
    (found,) = one.facts(ev.ForkFound)
    assert isinstance(found, ev.ForkFound)
    assert (found.form, found.witness) == ("K4", bytes(liar.site.id))
    process = process_of(one)
    for site in (liar, owner):
        process.handle(wires.now_s, terms.Met(site.site.id))
    process.handle(wires.now_s, terms.Said(liar.site.id, HeadsHeld((b"",))))
    process.handle(wires.now_s + 60.0, terms.Tick())
    assert not process.is_confirmed
    process.handle(wires.now_s + 61.0, terms.Said(owner.site.id, HeadsHeld((b"",))))
    assert process.is_confirmed
    assert process.words_needed == 1


def test_a_proof_against_a_witness_is_told_when_it_arises(tmp_path: Path) -> None:
    wires = Wires(3)
    one, owner, liar = wires.all
    book = WitnessDatabase.open(tmp_path / "witness.db")
    process = witnessing(wires, one, book)
    process.begin(wires.now_s, must_ask=False)
    process.handle(wires.now_s, terms.Met(owner.site.id))
    key, name = Signer(liar.site.keys.witness), terms.witness_name(liar.site.id)
    told: list[terms.WitnessOutput] = []
    for seed in (1, 2):
        note = forked(owner, 1, seed).note
        text = note[: note.index(b"\n\n") + 1].decode()
        cosigned = note + cosign(text, name, key, 1_800_000_000)
        said = terms.Said(owner.site.id, HeadsHeld((b"", cosigned)))
        told += process.handle(wires.now_s, said)
    proofs = [output.message.data for output in told if isinstance(output, terms.TellEveryone)]
    assert sorted(check_fork(proof).kind.value for proof in proofs) == ["K1", "K4"]
    events = [e for e in learned(told, ev.ForkFound) if isinstance(e, ev.ForkFound)]
    assert {e.form: e.witness for e in events} == {"K1": b"", "K4": bytes(liar.site.id)}
    assert sorted(kept(told)) == sorted(event.file.removeprefix("forks/") for event in events)
    assert [name[:5] for name in sorted(kept(told))] == ["0001-", "0002-"]
    book.close()


# --- proofs on their way ------------------------------------------------------------------------


def large_entry_proof(one: Hospital) -> bytes:
    """A K3 of two entries that are as large as entries get."""
    ledger = one.ledger

    def entry(letter: str) -> bytes:
        body = {f"f{n}": letter * 60_000 for n in range(1)}
        return sign_entry(
            Draft("x.y", "node", body),
            identity=ledger.identity,
            seq=5,
            prev=bytes(32),
            time_us=0,
            log=Signer(one.site.keys.log),
        )

    proof = fork_of_entries(ledger.identity.verifier_key, entry("a"), entry("b"))
    assert isinstance(proof, EntriesOfOneNumber)
    return encode_fork(proof)


@pytest.mark.parametrize(
    ("mine", "theirs", "forms"),
    [
        (4, 4, ["K2", "K4"]),
        (5, 3, ["K2", "K4"]),
        (2, 4, ["K2"]),  # no file could show that the witness saw both
    ],
)
def test_a_witness_of_the_own_log_and_of_a_false_one_is_accused(
    tmp_path: Path, mine: int, theirs: int, forms: list[str]
) -> None:
    wires = Wires(3)
    one, other, liar = wires.all
    one.ledger.append([note_of(n) for n in range(4)], (), 0)
    key, name = Signer(liar.site.keys.witness), terms.witness_name(liar.site.id)
    book = WitnessDatabase.open(tmp_path / "witness.db")
    view = MemoryView(one.ledger)
    head = Checkpoint(view.origin, mine, view.root_at(mine))
    book.put_own_cosignature(mine, head.root, cosign(head.text, name, key, 1_800_000_000), 1)
    process = witnessing(wires, one, book)
    process.begin(wires.now_s, must_ask=False)
    process.handle(wires.now_s, terms.Met(other.site.id))
    note = forked(one, theirs - 1, 1).note
    text = note[: note.index(b"\n\n") + 1].decode()
    cosigned = note + cosign(text, name, key, 1_800_000_001)
    told = process.handle(wires.now_s, terms.Said(other.site.id, HeadsHeld((cosigned,))))
    told += process.handle(wires.now_s, terms.Said(other.site.id, HeadsHeld((cosigned,))))
    assert sorted(check_fork(proof).kind.value for proof in book.forks()) == forms
    events = [e for e in learned(told, ev.ForkFound) if isinstance(e, ev.ForkFound)]
    liars = [e.witness for e in events if e.form == "K4"]
    assert liars == ([bytes(liar.site.id)] if "K4" in forms else [])
    book.close()


def test_a_proof_too_large_for_one_message_is_told_in_parts() -> None:
    wires = Wires(3)
    wires.boot()
    wires.run(2.0)
    finder, liar, other = wires.all
    proof = large_entry_proof(liar)
    assert len(proof) > 100_000
    outputs = process_of(finder).handle(wires.now_s, terms.Tick())
    finder.book.put_fork(proof)
    outputs = process_of(finder).handle(wires.now_s, terms.HeadSeen(b"", finder.ledger.note))
    parts = [o.message for o in outputs if isinstance(o, terms.TellEveryone)]
    assert len(parts) == 3
    heard: list[terms.WitnessOutput] = []
    for part in (parts[2], parts[0], parts[0], parts[1]):
        heard += process_of(other).handle(wires.now_s, terms.Said(finder.site.id, part))
    (found,) = learned(heard, ev.ForkFound)
    assert isinstance(found, ev.ForkFound)
    assert found.form == ForkKind.ENTRIES_OF_ONE_NUMBER.value
    assert other.book.forks() == (proof,)
    assert not [o for o in heard if isinstance(o, terms.TellEveryone)], "its finder told everyone"


def test_parts_that_never_become_whole_are_bounded_and_wrong_ones_are_named() -> None:
    wires = Wires(2)
    wires.boot()
    one, liar = wires.all
    process = process_of(one)
    for number in range(20):
        digest = bytes([number]) * 32
        said = terms.Said(liar.site.id, ForkTold(digest, 0, 3, b"x"))
        assert process.handle(wires.now_s, said) == []
    assert len(process._proofs._partial[liar.site.id]) == PARTIAL_PER_SITE_MAX
    for part in (1, 2):
        said = terms.Said(liar.site.id, ForkTold(digest, part, 3, b"x"))
        outputs = process.handle(wires.now_s, said)
    (refused,) = learned(outputs, ev.PeerRefused)
    assert refused == ev.PeerRefused(liar.site.id, "BadForkProof")


def test_a_proof_heard_again_changes_nothing() -> None:
    wires = Wires(3)
    wires.boot()
    one, liar, teller = wires.all
    proof = proof_against(liar)
    assert len(learned(tell(wires, teller, one, proof), ev.ForkFound)) == 1
    assert tell(wires, teller, one, proof) == []
    wires.crash(one)
    one.learned.clear()
    wires.boot(one)
    assert len(one.facts(ev.ForkFound)) == 1, "at each start it is told once more"


# --- the start-up gate --------------------------------------------------------------------------


def test_one_liar_does_not_open_the_gate_where_honest_sites_can_be_asked() -> None:
    wires = Wires(4)
    wires.boot()
    wires.run(2.0)
    old, liar = wires.all[0], wires.all[1]
    wires.record(old, 4)
    wires.run(3.0)
    wires.crash(old)
    old.ledger.cut(2)
    old.learned.clear()
    old.book._heads.clear()  # its witness.db is as old as its ledger
    wires.boot(old)
    process = process_of(old)
    process.handle(wires.now_s, terms.Met(liar.site.id))
    said = terms.Said(liar.site.id, HeadsHeld((b"",)))
    outputs = process.handle(wires.now_s, said)
    (words,) = learned(outputs, ev.OwnLogWords)
    assert words == ev.OwnLogWords(1, 2)
    assert not process.is_confirmed
    wires.run(5.0)
    assert old.facts(ev.OwnLogBehind)
    assert not old.facts(ev.OwnLogConfirmed)
    assert process.is_stopped


def test_where_no_quorum_can_be_reached_a_few_words_are_enough_after_some_seconds() -> None:
    wires = Wires(4)
    one, other = wires.all[:2]
    wires.boot(one, other)
    wires.run(terms.TERMS.quorum_wait_s - 1.0)
    assert one.facts(ev.OwnLogWords)
    assert not one.facts(ev.OwnLogConfirmed)
    wires.run(3.0)
    assert one.facts(ev.OwnLogConfirmed) == [ev.OwnLogConfirmed(1, 2)]


def test_how_many_may_lie_is_for_the_consortium_to_say() -> None:
    wires = Wires(4)
    one = wires.all[0]
    strict = witnessing(wires, one, one.book, faulty=2)
    trusting = witnessing(wires, one, one.book, faulty=0)
    assert (strict.words_needed, trusting.words_needed) == (3, 2)
