"""A site's witness key that is replaced while the others run, and whoever has the old one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from core_witnesses import START_S, Hospital, Wires, note_of
from test_core_witnessing import forked
from test_core_witnessing_keys import World

from gossip.card import Card, sign_card
from gossip.keys import SiteKeys
from gossip.roster import draft_roster
from gossip.witness_messages import CosignAnswered, HeadsHeld, told_in_parts
from ledger.log import Checkpoint, Draft, LogId, Signer, cosign
from ledger.log.fork_proofs import fork_digest
from ledger.log.forks import encode_fork, fork_of_cosignatures
from ledger.log.own_kinds import WITNESS_KEY, compromise_draft, rotation_draft, sign_rotation
from ledger.log.witness_store import WitnessDatabase
from p2pfl.core import events as ev
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.witnessing_epochs import epochs_of
from simulations.memory_ledger import MemoryLedger

NEXT_SEED = b"\x66" * 32
NEXT = Signer(NEXT_SEED)
OK = 200


def statement(one: Hospital, new: Signer) -> Draft:
    """The entry by which a site replaces its witness key."""
    identity = one.ledger.identity
    signed = sign_rotation(
        identity.log_id,
        old_pk=identity.witness_pk,
        new_pk=new.public_key,
        identity=Signer(one.site.keys.identity),
        key=WITNESS_KEY,
    )
    return rotation_draft(identity, new.public_key, signed, "operator", WITNESS_KEY)


def at_us(wires: Wires) -> int:
    return int(wires.now_s * 1e6)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Three sites; the second will replace its witness key."""
    books = [WitnessDatabase.open(tmp_path / f"{n}.db") for n in range(3)]
    made = World(Wires(3), books)
    made.meet(0, 1, 2)
    made.later(6.0)
    yield made
    for book in books:
        book.close()


def rotate(world: World, *, stolen_s: float = 0.0) -> None:
    """The second site stops, replaces its key, and starts again under the new one."""
    one = world.sites[1]
    drafts = [statement(one, NEXT)]
    if stolen_s:
        old_pk = one.ledger.identity.witness_pk
        drafts.append(compromise_draft(old_pk, int(stolen_s * 1e6), "operator", WITNESS_KEY))
    world.wires.now_s += 10.0
    one.ledger.append(drafts, (), at_us(world.wires))
    world.restart(1, NEXT)


def lines_of(world: World, index: int, witness: int = 1) -> list[tuple[int, bytes]]:
    """(size, key id) of what a witness cosigned for a site, as that site keeps it."""
    name = terms.witness_name(world.sites[witness].site.id)
    heads = world.books[index].own_heads()
    return [(h.size, c.key_id) for h in heads for c in h.cosignatures if c.witness == name]


def key_ids(world: World) -> tuple[bytes, bytes]:
    """Of the second site's keys, as the first one knows them."""
    epochs = world.processes[0]._keys.epochs
    new = epochs.key_of(world.sites[1].site.id)
    (old,) = [epoch.key.key_id for epoch in epochs.earlier if epoch.key.name == new.name]
    return old, new.key_id


def test_cosignatures_go_on_under_the_new_key_and_the_old_ones_stay(world: World) -> None:
    before = lines_of(world, 0)
    assert before
    rotate(world)
    world.sites[0].ledger.append([note_of(7)], (), 0)
    world.give(0, terms.OwnGrew())
    world.later(6.0)
    old, new = key_ids(world)
    after = lines_of(world, 0)
    assert [line for line in after if line[1] == old] == before
    assert {key_id for size, key_id in after if size > before[-1][0]} == {new}
    assert world.refused() == []


def test_a_site_that_heard_of_it_at_second_hand_takes_the_new_key_too(world: World) -> None:
    world.cut = {frozenset((0, 1))}
    rotate(world)
    world.later(601.0)
    card = world.wires.roster.member(world.sites[1].site.id)
    assert world.processes[0]._keys.epochs.key_of(card.site).public_key == NEXT.public_key
    assert world.refused() == []


def answer_by(world: World, signer: Signer, time_s: float) -> terms.Said:
    """What the second site's transport brings the first one: a cosignature of its newest head."""
    owner, witness = world.sites[0], world.sites[1]
    head = owner.ledger.checkpoint
    line = cosign(head.text, terms.witness_name(witness.site.id), signer, int(time_s))
    return terms.Said(witness.site.id, CosignAnswered(head.origin, head.size, head.root, OK, line))


def test_an_answer_under_the_old_key_is_refused_by_name_once_the_statement_is_known(
    world: World,
) -> None:
    """The thief of transport and old witness key, however it dates what it signs."""
    old = Signer(world.sites[1].site.keys.witness)
    rotate(world)
    kept = lines_of(world, 0)
    world.sites[0].ledger.append([note_of(7)], (), 0)
    for time_s in (START_S, world.wires.now_s):
        refused = world.processes[0].handle(world.wires.now_s, answer_by(world, old, time_s))
        assert refused == [terms.Learned(ev.PeerRefused(world.sites[1].site.id, "BadCosignature"))]
    assert lines_of(world, 0) == kept


def lie(world: World, signer: Signer, time_s: float) -> tuple[bytes, bytes]:
    """A K4: the second site's key over two heads of the third one. (digest, proof)"""
    witness = terms.witness_name(world.sites[1].site.id)
    heads = [head_of(forked(world.sites[2], 1, seed)) for seed in (1, 2)]
    notes = [
        head.text.encode() + b"\n" + cosign(head.text, witness, signer, int(time_s))
        for head in heads
    ]
    key = next(
        epoch.key
        for epoch in (*world.processes[0]._keys.epochs.earlier, *in_force(world))
        if epoch.key.public_key == signer.public_key
    )
    proof = fork_of_cosignatures(key, *notes)
    assert proof is not None
    data = encode_fork(proof)
    return fork_digest(data), data


def in_force(world: World) -> list[object]:
    return list(epochs_of(world.wires.roster.member(world.sites[1].site.id), None))


def head_of(ledger: MemoryLedger) -> Checkpoint:
    return ledger.checkpoint


@pytest.mark.parametrize(
    ("stolen", "time_s", "is_accused"),
    [(True, START_S + 0.5, False), (False, START_S + 60.0, False), (False, START_S + 0.5, True)],
)
def test_two_cosignatures_under_an_old_key_accuse_its_site_only_if_it_has_to_answer_for_them(
    world: World, stolen: bool, time_s: float, is_accused: bool
) -> None:
    """Not for a stolen key, nor for the time after it was replaced; the teller is not blamed."""
    old = Signer(world.sites[1].site.keys.witness)
    rotate(world, stolen_s=START_S + 5.0 if stolen else 0.0)
    (told,) = told_in_parts(*lie(world, old, time_s))
    outputs = world.processes[0].handle(world.wires.now_s, terms.Said(world.sites[2].site.id, told))
    assert not any(
        isinstance(o, terms.Learned) and isinstance(o.event, ev.PeerRefused) for o in outputs
    )
    false = world.processes[0]._proofs.false_witnesses()
    assert false == (frozenset({world.sites[1].site.id}) if is_accused else frozenset())
    found = [o.event for o in outputs if isinstance(o, terms.Learned)]
    assert [e.witness for e in found if isinstance(e, ev.ForkFound)] == (
        [bytes(world.sites[1].site.id)] if is_accused else []
    )


def test_whoever_lied_does_not_wash_itself_by_replacing_its_key(world: World) -> None:
    old = Signer(world.sites[1].site.keys.witness)
    (told,) = told_in_parts(*lie(world, old, START_S + 0.5))
    world.give(0, terms.Said(world.sites[2].site.id, told))
    rotate(world, stolen_s=START_S)
    liar = frozenset({world.sites[1].site.id})
    assert world.processes[0]._proofs.false_witnesses() == liar
    world.restart(0, Signer(world.sites[0].site.keys.witness))
    assert world.processes[0]._proofs.false_witnesses() == liar


def test_a_thiefs_line_under_another_history_of_the_own_log_accuses_nobody(world: World) -> None:
    """With a log key and an old witness key: the own log has forked, the witness did nothing."""
    old = Signer(world.sites[1].site.keys.witness)
    thief = forked(world.sites[0], 1, 9)
    rotate(world, stolen_s=START_S)
    name = terms.witness_name(world.sites[1].site.id)
    line = cosign(thief.checkpoint.text, name, old, int(START_S))
    world.give(0, terms.Said(world.sites[2].site.id, HeadsHeld((thief.note + line,))))
    assert world.processes[0]._proofs.false_witnesses() == frozenset()


def test_a_witness_that_lied_about_the_own_log_before_it_replaced_its_key_is_found(
    world: World,
) -> None:
    old = Signer(world.sites[1].site.keys.witness)
    thief = forked(world.sites[0], 1, 9)
    rotate(world)
    name = terms.witness_name(world.sites[1].site.id)
    line = cosign(thief.checkpoint.text, name, old, int(START_S))
    world.sites[0].ledger.append([note_of(7)], (), 0)
    world.give(0, terms.OwnGrew())
    world.later(1.0)
    world.give(0, terms.Said(world.sites[2].site.id, HeadsHeld((thief.note + line,))))
    found = [e for e in world.learned[0] if isinstance(e, ev.ForkFound)]
    assert [e.witness for e in found if e.form == "K4"] == [bytes(world.sites[1].site.id)]


# -- card and log ----------------------------------------------------------------------------------


def card_with(one: Hospital, card: Card, witness_seed: bytes, serial: int) -> Card:
    keys: SiteKeys = replace(one.site.keys, witness=witness_seed)
    return sign_card(
        keys, name=card.name, log_id=card.log_id, addresses=card.addresses, serial=serial
    )


def test_card_and_log_agree_whichever_comes_first(world: World) -> None:
    one = world.sites[1]
    voted = world.wires.roster.member(one.site.id)
    newer = card_with(one, voted, NEXT_SEED, 1)
    # The card overtakes the log's entry: it is the site's own word.
    (only,) = epochs_of(newer, None)
    assert only.key.public_key == NEXT.public_key
    members = [newer if c.site == newer.site else c for c in world.wires.roster.members]
    roster = draft_roster(world.wires.roster.consortium, members)
    world.give(0, terms.Members(roster))
    assert world.processes[0]._keys.epochs.key_of(newer.site).public_key == NEXT.public_key
    one.ledger.append([statement(one, NEXT)], (), at_us(world.wires))
    for card in (voted, newer):
        epochs = epochs_of(card, one.ledger.identity)
        assert [e.key.public_key for e in epochs] == [voted.witness_pk, NEXT.public_key]
    third = card_with(one, voted, b"\x68" * 32, 2)
    assert [e.key.public_key for e in epochs_of(third, one.ledger.identity)][-1] == third.witness_pk


def test_a_card_that_names_another_sites_log_takes_none_of_its_keys(world: World) -> None:
    one = world.sites[1]
    one.ledger.append([statement(one, NEXT)], (), at_us(world.wires))
    foreign = world.wires.roster.member(world.sites[2].site.id)
    (only,) = epochs_of(foreign, one.ledger.identity)
    assert only.key.public_key == foreign.witness_pk


def test_mirrored_entries_tell_of_a_new_key_where_nobody_showed_it(world: World) -> None:
    """The lineage was lost on the way; the log's entries are fetched all the same."""
    one, log_id = world.sites[1], LogId(world.sites[1].ledger.identity.log_id)
    one.ledger.append([statement(one, NEXT)], (), at_us(world.wires))
    world.give(1, terms.OwnGrew())
    for _ in range(4):
        world.later(601.0)
    assert world.books[0].first_missing_entry(log_id) == len(one.ledger.entries)
    assert len(world.books[0].lineage(log_id)) == 2
