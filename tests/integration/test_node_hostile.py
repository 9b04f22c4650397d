"""One real node among an honest one and a member that keeps no rule, and a stranger at the door."""

import asyncio
import contextlib
import hashlib
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from net_hostile import hostile
from node_enemy import Enemy, Target
from node_homes import Consortium, audit_code, entries, with_study
from node_processes import RunningNode, running

from gossip.envelope import seal
from gossip.identifiers import SiteId
from gossip.limits import ENVELOPE_BYTES_MAX
from gossip.messages import StudyProposal, encode_message
from ledger.log import ExitCode, WitnessDatabase, check_fork

PUSH, BLOB, MESH = "/p2pfl/push/1", "/p2pfl/blob/1", "/meshsub/1.1.0"
ROUNDS = 9
FLOOD = 3000
FORK_TRIES = 30
GROWTH_MB_MAX = 60
ENTRIES_MAX = 400
"""An honest run writes about 70; what one member can add to that is bounded by rules, not by it."""


@pytest.fixture
def besieged(founded: Consortium, tmp_path: Path) -> Consortium:
    """A study of three sites; the last one is the enemy's."""
    terms = ("--rounds", str(ROUNDS - 1), "--consensus-rounds", "1", "--round-deadline", "2")
    few = ("--neighbours-min", "1", "--weighting", "uniform", "--privacy", "none")
    return with_study(founded.copied(tmp_path / "c"), *terms, *few)


REFUSED = {
    "BadSignature",
    "UnknownStudy",
    "Garbled",
    "InlineHashMismatch",
    "WrongSize",
    "RelayedUpdate",
    "ForkedHead",
    "BadManifest",
    "RoundOutOfRange",
    "Equivocation",
    "Replayed",
    "TooFast",
}


@pytest.mark.nodes
async def test_a_hostile_member_is_refused_by_name_and_stops_nothing(
    besieged: Consortium, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(besieged.homes[:2]) as (victim, honest):
        async with Enemy(besieged, 2) as enemy:
            for node in (victim, honest):
                await asyncio.to_thread(node.wait, "node_ready")
            await enemy.meet(besieged.site(0), besieged.site(1))
            for site in (besieged.site(0), besieged.site(1)):
                await enemy.tell(site, enemy.approval())
            await _lie(enemy, besieged)
            await _send_bad_updates(enemy, besieged, victim)
            await _shout_garbage(besieged)
            before_mb = victim.memory_peak_mb()
            await _flood(enemy, besieged)
            for node in (victim, honest):
                await asyncio.to_thread(node.wait, "study_complete")
            # Last: whoever is proved to show two histories takes part no more.
            await _fork(enemy, besieged.site(0), victim)
            for node in (victim, honest):
                await asyncio.to_thread(node.wait, "fork_found")
            grown_mb = victim.memory_peak_mb() - before_mb
            status = await asyncio.to_thread(victim.status)
        assert not victim.said("internal_error")
        assert [node.stop()[0] for node in (victim, honest)] == [0, 0]

    refused = {name.partition("/")[2]: count for name, count in status["refused"].items()}
    assert set(refused) >= REFUSED
    assert set(status["turned_away"]) >= {"PushGarbled", "BlobGarbled", "NotOnRoster"}
    size = _check_records(besieged)
    assert grown_mb < GROWTH_MB_MAX
    with capfd.disabled():
        print(
            f"\n[{sum(refused.values())} refusals by {len(refused)} rules, {size} entries in the "
            f"ledger, {grown_mb:.0f} MB more memory under the flood]"
        )
    # A site that knows of a fork says so in its audit until people have settled it.
    codes = [audit_code(besieged.home(index)) for index in (0, 1)]
    assert codes == [ExitCode.FORK_PROVEN] * 2


def _check_records(made: Consortium) -> int:
    """What the victim's ledger and files say of it all. Returns the number of entries."""
    home = made.home(0)
    kept = Counter(entry.kind for entry in entries(home))
    assert sum(kept.values()) <= ENTRIES_MAX, kept
    rules = {entry.body["reason"] for entry in entries(home, "peer.misbehaved")}
    assert rules >= REFUSED - {"Replayed"}  # honest sites repeat themselves, too: only counted
    received = [
        entry.body
        for entry in entries(home, "update.received")
        if entry.body["from"] == made.site(2)
    ]
    rejected = {body["reason"] for body in received if body["verdict"] == "rejected"}
    assert rejected == {"not-finite", "wrong-shape", "wrong-digest"}
    assert any(body["verdict"] == "late" for body in received)
    enemy = made.roster.member(made.site(2)).log_id
    book = WitnessDatabase.open(home.path / "witness.db")
    try:  # for whoever has to be shown it
        assert {check_fork(proof).log_id for proof in book.forks()} == {enemy}
    finally:
        book.close()
    return sum(kept.values())


async def _lie(enemy: Enemy, made: Consortium) -> None:
    """Everything that is refused at any time."""
    site = made.site(0)
    good = enemy.update(0, enemy.model())
    envelope = enemy.sealed(good)
    wrong_hash = replace(good, inline=enemy.model(2.0))
    await enemy.tell(
        site,
        envelope[:63] + bytes([envelope[63] ^ 1]) + envelope[64:],
        enemy.signed(os.urandom(100)),
        enemy.signed(b""),
        os.urandom(1000),
        enemy.signed(encode_message(wrong_hash)),
        replace(good, size=10**9, inline=b""),
        seal(made.keys(1).transport, made.site(1), made.roster.consortium, good),  # not its author
        replace(good, study=os.urandom(32)),
        replace(good, round=500),
        StudyProposal(b"[study]\nname = '\x1b[2J\xe2\x80\xae'", b""),
        StudyProposal(made.manifest.raw.replace(b"rounds = ", b"rounds = -"), b""),
    )
    await enemy.tell(site, *enemy.decisions_about_nothing(100))


async def _send_bad_updates(enemy: Enemy, made: Consortium, victim: RunningNode) -> None:
    """One update per round, each bad in its own way; then old ones, and two for one round."""
    site = made.site(0)
    never, other = enemy.model(3.0), enemy.model(4.0)
    lie = made.folder / "lie"
    lie.write_bytes(enemy.model(5.0))
    enemy.shelf[hashlib.sha256(other).digest()] = lie
    updates = [
        enemy.update(0, enemy.model_with_nan()),
        enemy.update(1, enemy.not_a_model()),
        enemy.update(2, other, inline=False),
        enemy.update(3, never, inline=False),
    ]
    for round_, update in enumerate(updates):
        await _at_round(victim, round_)
        await enemy.tell(site, update, replace(update, round=round_))
    await _at_round(victim, 5)
    await enemy.tell(
        site,
        enemy.update(4, enemy.model()),  # a round that is over
        updates[0],  # a verdict is on record
        enemy.update(5, enemy.model(0.1)),
        enemy.update(5, enemy.model(0.2)),
    )


async def _shout_garbage(made: Consortium) -> None:
    """With a member's key and with a stranger's, on every protocol and below all of them."""
    target = Target(made.roster.member(made.site(0)))
    too_large = (ENVELOPE_BYTES_MAX + 1).to_bytes(4, "big") + bytes(100)
    async with hostile(made.keys(2).transport) as member:
        with contextlib.suppress(Exception):
            await member.connect(target)  # type: ignore[arg-type]  # a card and an address
        for protocol in (PUSH, BLOB, MESH, "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/nonsense"):
            for data in (os.urandom(5000), too_large):
                with contextlib.suppress(Exception):
                    stream = await member.say(target, protocol, data)  # type: ignore[arg-type]
                    if protocol == PUSH:  # read once the member's own stream has yielded to it
                        await member.read(stream, 1)
        with contextlib.suppress(Exception):
            await member.say_unnegotiated(target, os.urandom(5000))  # type: ignore[arg-type]
    for _ in range(5):
        async with hostile(os.urandom(32)) as stranger:
            with contextlib.suppress(Exception):
                await stranger.connect(target)  # type: ignore[arg-type]
                await stranger.say(target, PUSH, b"\0\0\0\1x")  # type: ignore[arg-type]


async def _flood(enemy: Enemy, made: Consortium) -> None:
    """Thousands of messages as fast as they go, sound, stale and senseless in turn."""
    site = made.site(0)
    stale = enemy.sealed(enemy.update(0, enemy.model(7.0)))
    await enemy.meet(site)
    for number in range(FLOOD // 4):
        batch = (
            *enemy.decisions_about_nothing(1),
            replace(enemy.approval(), entry_seq=10**6 + number),
            os.urandom(2000),
            stale,
        )
        with contextlib.suppress(Exception):  # it may be cut off at any time
            await enemy.tell(site, *batch)


async def _fork(enemy: Enemy, site: SiteId, victim: RunningNode) -> None:
    """Show two histories until they are proved: after the flood it is heard again only slowly."""
    for _ in range(FORK_TRIES):
        if victim.said("fork_found"):
            return
        with contextlib.suppress(Exception):  # it may still be turned away
            await enemy.meet(site)
            await enemy.tell(site, *(enemy.forked_head() for _ in range(12)))
        with contextlib.suppress(AssertionError):
            await asyncio.to_thread(victim.wait, "fork_found", 1, 2.0)


async def _at_round(victim: RunningNode, round_: int) -> None:
    """Wait until the victim is in a round (or past it)."""
    if round_ > 0:
        await asyncio.to_thread(victim.wait, "round_done", round_)
