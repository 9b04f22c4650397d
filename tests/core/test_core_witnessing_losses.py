"""A witness that lost its book, a consortium too large for one message, a disk that fills."""

from pathlib import Path

import pytest
from core_witnesses import Hospital, Wires, witnessing
from test_core_witnessing import forked

from gossip.witness_messages import CosignAnswered, CosignRequested, HeadsHeld
from ledger.log import LogId, Signer, cosign
from ledger.log.errors import WriteFailed
from ledger.log.witness_store import WitnessDatabase
from p2pfl.core import events as ev
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.witnessing import Witnessing
from p2pfl.core.witnessing_telling import HeadsTold
from simulations.memory_ledger import MemoryLedger


def cosigned(by: Hospital, note: bytes) -> bytes:
    text = note[: note.index(b"\n\n") + 1].decode()
    name = terms.witness_name(by.site.id)
    return note + cosign(text, name, Signer(by.site.keys.witness), 1_800_000_000)


def asked(process: Witnessing, wires: Wires, owner: Hospital, ledger: MemoryLedger) -> list[int]:
    """Have the owner ask for a cosignature of a first head; the statuses of the answers."""
    request = CosignRequested(b"old 0\n\n" + ledger.note, 0, b"")
    outputs = process.handle(wires.now_s, terms.Said(owner.site.id, request))
    told = [output.message for output in outputs if isinstance(output, terms.Tell)]
    return [message.status for message in told if isinstance(message, CosignAnswered)]


def test_a_witness_that_lost_its_book_cosigns_no_second_history(tmp_path: Path) -> None:
    """Whoever has its cosignature under the first one could prove a lie that was none (K4)."""
    wires = Wires(4)
    loser, liar, honest, other = wires.all
    first, second = (forked(liar, 1, seed) for seed in (1, 2))
    book = WitnessDatabase.open(tmp_path / "witness.db")
    process = witnessing(wires, loser, book)
    process.begin(wires.now_s, must_ask=True)
    for one in (liar, honest, other):
        process.handle(wires.now_s, terms.Met(one.site.id))
    process.handle(wires.now_s, terms.Said(liar.site.id, HeadsHeld((b"",))))
    assert asked(process, wires, liar, second) == []
    seen = HeadsHeld((b"", cosigned(loser, first.note)))
    process.handle(wires.now_s, terms.Said(honest.site.id, seen))
    assert asked(process, wires, liar, second) == [403], "a fork is proven, nothing cosigned"
    assert len(book.forks()) == 1
    assert asked(process, wires, other, other.ledger) == [200], "honest logs are cosigned"
    book.close()


def test_a_witness_that_nobody_else_speaks_to_cosigns_after_some_seconds(tmp_path: Path) -> None:
    wires = Wires(4)
    one, owner = wires.all[:2]
    book = WitnessDatabase.open(tmp_path / "witness.db")
    process = witnessing(wires, one, book)
    process.begin(wires.now_s, must_ask=True)
    process.handle(wires.now_s, terms.Met(owner.site.id))
    process.handle(wires.now_s, terms.Said(owner.site.id, HeadsHeld((b"",))))
    assert asked(process, wires, owner, owner.ledger) == []
    wires.now_s += terms.TERMS.quorum_wait_s + 1.0
    assert asked(process, wires, owner, owner.ledger) == [200]
    book.close()


def test_heads_that_do_not_fit_into_one_message_come_with_the_next_ones() -> None:
    wires = Wires(9)
    wires.boot()
    wires.run(3.0)
    one, reader, *others = wires.all
    ids = [LogId(h.ledger.identity.log_id) for h in (reader, one)]
    size = max(map(len, HeadsTold(one.site.id, one.book).notes(*ids)))
    told = HeadsTold(one.site.id, one.book, bytes_max=3 * size)
    heard = [note for _ in range(6) for note in told.notes(*ids)[1:]]
    for other in others:
        assert any(other.ledger.identity.origin.encode() in note for note in heard)
    assert all(1 < len(told.notes(*ids)) < len(others) for _ in range(6))


def test_mirrors_pause_while_the_disk_is_nearly_full_and_nobody_is_blamed() -> None:
    wires = Wires(3)
    holder, owner, _ = wires.all
    wires.boot()
    wires.run(2.0)
    held = holder.book.mirrored_size(LogId(owner.ledger.identity.log_id))
    holder.book.has_room = False
    wires.record(owner, 20)
    wires.run(5.0)
    log_id = LogId(owner.ledger.identity.log_id)
    head = holder.book.head_of(log_id)
    assert head is not None
    assert head.size == len(owner.ledger.entries), "heads are cosigned all the same"
    assert holder.book.mirrored_size(log_id) == held
    assert not [event for one in wires.all for event in one.facts(ev.PeerRefused)]
    holder.book.has_room = True
    wires.run(5.0)
    assert holder.book.mirrored_size(log_id) == len(owner.ledger.entries)


def test_a_disk_that_refuses_is_no_members_fault(tmp_path: Path) -> None:
    wires = Wires(2)
    one, owner = wires.all
    wires.record(owner, 3)
    book = WitnessDatabase.open(tmp_path / "witness.db")
    process = witnessing(wires, one, book)
    process.begin(wires.now_s, must_ask=False)
    process.handle(wires.now_s, terms.Met(owner.site.id))
    book._tables._connection.execute("PRAGMA query_only = 1")  # as a full disk: nothing is written
    log_id, note = owner.ledger.identity.log_id, owner.ledger.note
    with pytest.raises(WriteFailed):
        process.handle(wires.now_s, terms.HeadSeen(log_id, note))
    with pytest.raises(WriteFailed):
        process.handle(wires.now_s, terms.Said(owner.site.id, HeadsHeld((b"", note))))
    book.close()
