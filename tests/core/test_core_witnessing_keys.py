"""A log's key that is replaced or stolen: who takes the heads under it, and who is accused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from core_witnesses import START_S, Hospital, Wires, core_of, note_of, witnessing
from test_core_witnessing import forked, newest_cosigned

from gossip.messages import HeadAdvertised
from gossip.witness_messages import CosignRequested, HeadsHeld, KeysShown, told_in_parts
from ledger.log import LogId, Signer
from ledger.log.fork_proofs import fork_digest
from ledger.log.forks import encode_fork, fork_of_heads
from ledger.log.own_kinds import compromise_draft, sign_rotation
from ledger.log.witness_store import WitnessDatabase
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core import witnessing_terms as terms
from simulations.memory_ledger import MemoryLedger


def replaced_key(ledger: MemoryLedger, one: Hospital, new: Signer) -> None:
    identity = ledger.identity
    statement = sign_rotation(
        identity.log_id,
        old_pk=identity.log_pk,
        new_pk=new.public_key,
        identity=Signer(one.site.keys.identity),
    )
    ledger.rotate(new, statement)


@pytest.fixture
def three(tmp_path: Path) -> Iterator["World"]:
    """An owner and two others with real books; everything that is told arrives."""
    wires = Wires(3)
    books = [WitnessDatabase.open(tmp_path / f"{n}.db") for n in range(3)]
    world = World(wires, books)
    yield world
    for book in books:
        book.close()


class World:
    """Real books behind virtual wires without delay."""

    def __init__(self, wires: Wires, books: list[WitnessDatabase]) -> None:
        self.wires, self.books = wires, books
        self.sites = wires.all
        self.processes = [
            witnessing(wires, one, book) for one, book in zip(wires.all, books, strict=True)
        ]
        self.learned: list[list[object]] = [[] for _ in wires.all]
        self.cut: set[frozenset[int]] = set()
        for index, process in enumerate(self.processes):
            self.carry(index, process.begin(wires.now_s, must_ask=False))

    def meet(self, *indices: int) -> None:
        for a in indices:
            for b in indices:
                if a != b:
                    self.give(a, terms.Met(self.sites[b].site.id))

    def restart(self, index: int, witness: Signer) -> None:
        """A site's node begins anew with the same book, cosigning under this key."""
        one = self.sites[index]
        for other in range(len(self.sites)):
            if other != index:
                self.give(other, terms.Lost(one.site.id))
        self.processes[index] = witnessing(self.wires, one, self.books[index], signer=witness)
        self.carry(index, self.processes[index].begin(self.wires.now_s, must_ask=False))
        for other in range(len(self.sites)):
            if other != index and frozenset((index, other)) not in self.cut:
                self.give(other, terms.Met(one.site.id))
                self.give(index, terms.Met(self.sites[other].site.id))

    def give(self, index: int, given: terms.WitnessInput) -> None:
        self.carry(index, self.processes[index].handle(self.wires.now_s, given))

    def carry(self, index: int, outputs: list[terms.WitnessOutput]) -> None:
        for output in outputs:
            match output:
                case terms.Learned(event=event):
                    self.learned[index].append(event)
                case terms.Tell(site=site, message=message):
                    to = [one.site.id for one in self.sites].index(site)
                    if frozenset((index, to)) not in self.cut and self.sites[index].site.id in (
                        self.processes[to].peers
                    ):
                        self.give(to, terms.Said(self.sites[index].site.id, message))
                case _:
                    pass

    def later(self, seconds: float) -> None:
        self.wires.now_s += seconds
        for index in range(len(self.sites)):
            self.give(index, terms.Tick())

    def refused(self) -> list[object]:
        return [e for told in self.learned for e in told if isinstance(e, ev.PeerRefused)]


def test_a_replaced_key_is_accepted_by_whoever_hears_of_it_also_at_second_hand(
    three: World,
) -> None:
    owner, new = three.sites[0], Signer(b"\x77" * 32)
    three.meet(0, 1, 2)
    three.later(1.0)
    three.cut = {frozenset((0, 2))}  # the third hears of the owner through the second alone
    replaced_key(owner.ledger, owner, new)
    owner.ledger.append([note_of(7)], (), 0)
    three.give(0, terms.OwnGrew())
    for _ in range(3):
        three.later(601.0)
    log_id = LogId(owner.ledger.identity.log_id)
    size = len(owner.ledger.entries)
    for index in (1, 2):
        held = three.books[index].head_of(log_id)
        assert held is not None
        assert (held.size, held.key.public_key) == (size, new.public_key)
        (told,) = [e for e in three.learned[index] if isinstance(e, ev.LogKeys)]
        assert told.in_force[-1] == (size - 1, new.public_key)
    assert three.refused() == []
    own = three.books[0].own_cosignatures()
    assert own is not None
    assert own.size == size


def test_heads_under_a_new_key_are_taken_once_its_entry_is_proven() -> None:
    wires = Wires(2)
    one, owner = wires.all
    new = Signer(b"\x77" * 32)
    core = core_of(one, wires)
    replaced_key(owner.ledger, owner, new)
    identity = owner.ledger.identity
    heard = ev.Delivered(owner.site.id, _advertised(owner))
    assert core.handle(START_S, heard) == [], "not known yet: nobody is to blame"
    assert core.refused[owner.site.id, "HeadKeyUnknown"] == 1
    in_force = tuple((key.first_seq, key.public_key) for key in identity.keys)
    core.handle(START_S, ev.LogKeys(bytes(identity.log_id), in_force))
    (kept_head,) = core.handle(START_S, heard)
    assert isinstance(kept_head, fx.HeadHeard)


def _advertised(owner: Hospital) -> HeadAdvertised:
    return HeadAdvertised(note=owner.ledger.note)


def test_a_stolen_key_freezes_nobody_once_it_is_disowned(three: World) -> None:
    owner, new = three.sites[0], Signer(b"\x77" * 32)
    three.meet(0, 1, 2)
    before = owner.ledger.identity.log_pk
    thief = forked(owner, 1, 3)
    replaced_key(owner.ledger, owner, new)
    owner.ledger.append([compromise_draft(before, 1, "node")], (), 0)
    three.give(0, terms.OwnGrew())
    three.later(601.0)
    for index in (0, 1):
        first = b"" if index else thief.note
        notes = (first,) if index == 0 else (b"", thief.note)
        three.give(index, terms.Said(three.sites[2].site.id, HeadsHeld(notes)))
        assert three.books[index].forks() == ()
    assert not any(isinstance(e, ev.ForkFound) for told in three.learned for e in told)
    assert not three.processes[0].is_stopped


def test_a_flood_of_proofs_under_a_disowned_key_is_refused_and_leaves_nothing(
    three: World,
) -> None:
    """Whoever has the old key can make as many as it likes, each of them sound in itself."""
    owner, new = three.sites[0], Signer(b"\x77" * 32)
    three.meet(0, 1, 2)
    old = owner.ledger.identity.verifier_key
    heads = [forked(owner, 1, seed).note for seed in range(21)]
    replaced_key(owner.ledger, owner, new)
    owner.ledger.append([compromise_draft(old.public_key, 1, "node")], (), 0)
    three.give(0, terms.OwnGrew())
    process, teller = three.processes[1], three.sites[2].site.id
    for head in heads[1:]:
        proof = fork_of_heads(old, heads[0], head)
        assert proof is not None
        data = encode_fork(proof)
        (told,) = told_in_parts(fork_digest(data), data)
        assert process.handle(three.wires.now_s, terms.Said(teller, told)) == [
            terms.Learned(ev.PeerRefused(teller, "BadForkProof"))
        ]
    assert three.books[1].forks() == ()
    assert process._proofs._from_others == set()


def test_entries_that_prove_no_key_are_refused(three: World) -> None:
    three.meet(0, 1)
    log_id = bytes(three.sites[0].ledger.identity.log_id)
    genesis = three.sites[0].ledger.entries[0].raw
    other = three.sites[1].ledger.entries[0].raw
    for entries in ((other,), (genesis, genesis[:-1])):
        said = terms.Said(three.sites[0].site.id, KeysShown(log_id, entries))
        (refused,) = three.processes[1].handle(three.wires.now_s, said)
        assert refused == terms.Learned(ev.PeerRefused(three.sites[0].site.id, "BadKeys"))
    stranger = terms.Said(three.sites[0].site.id, KeysShown(bytes(32), (genesis,)))
    assert three.processes[1].handle(three.wires.now_s, stranger) == []


def test_the_own_log_is_not_shown_before_it_is_confirmed_not_even_its_keys() -> None:
    wires = Wires(3)
    one = wires.all[0]
    wires.boot(one)
    assert one.process is not None
    outputs = one.process.handle(wires.now_s, terms.Met(wires.all[1].site.id))
    assert not [
        o
        for o in outputs
        if isinstance(o, terms.Tell) and isinstance(o.message, CosignRequested | KeysShown)
    ]
    assert newest_cosigned(one) == 0
