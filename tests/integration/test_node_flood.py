"""A real node under every flood at once: what it holds, and that it goes on meanwhile."""

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from net_hostile import hostile
from node_enemy import Enemy, Target
from node_homes import Consortium, audit_code, with_study
from node_processes import RunningNode, running

from gossip.addresses import split_address

FLOOD_S = 15.0
IDLE_TIMES_MAX = 2.0
HALF_OPEN = 300
PROTOCOLS = ("/p2pfl/push/1", "/p2pfl/blob/1", "/meshsub/1.1.0", "/nonsense")


@pytest.fixture
def besieged(founded: Consortium, tmp_path: Path) -> Consortium:
    """A long study of three sites; the last one is the enemy's."""
    terms = ("--rounds", "300", "--consensus-rounds", "1", "--round-deadline", "2")
    few = ("--neighbours-min", "1", "--weighting", "uniform", "--privacy", "none")
    return with_study(founded.copied(tmp_path / "c"), *terms, *few)


@pytest.mark.nodes
async def test_a_node_under_every_flood_at_once_holds_at_most_twice_what_it_holds_idle(
    besieged: Consortium, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(besieged.homes[:1]) as (victim,):
        await asyncio.to_thread(victim.wait, "node_ready")
        idle_mb = _memory_mb(victim, "VmRSS")
        with running([besieged.home(1)]) as (honest,):
            async with Enemy(besieged, 2) as enemy:
                await enemy.meet(besieged.site(0), besieged.site(1))
                for site in (besieged.site(0), besieged.site(1)):
                    await enemy.tell(site, enemy.approval())
                await asyncio.to_thread(victim.wait, "round_done")
                _forget_peak(victim)
                before = len(victim.said("round_done"))
                await _besiege(enemy, besieged)
                peak_mb = _memory_mb(victim, "VmHWM")
                status = await asyncio.to_thread(victim.status)
                done = len(victim.said("round_done")) - before
            assert honest.process.poll() is None
        assert not victim.said("internal_error")
        assert victim.stop()[0] == 0
    with capfd.disabled():
        print(
            f"\n[idle {idle_mb:.0f} MB, at most {peak_mb:.0f} MB under {FLOOD_S:.0f} s of flood; "
            f"{done} rounds meanwhile; {sum(status['turned_away'].values())} turned away, "
            f"{sum(status['refused'].values())} refused, {status['unheard']} unheard]"
        )
    assert done > 0
    assert peak_mb <= IDLE_TIMES_MAX * idle_mb
    assert audit_code(besieged.home(0)) == 0


def _memory_mb(node: RunningNode, field: str) -> float:
    lines = Path(f"/proc/{node.pid}/status").read_text().splitlines()
    (held,) = [line.split()[1] for line in lines if line.startswith(field)]
    return int(held) / 1024


def _forget_peak(node: RunningNode) -> None:
    with contextlib.suppress(PermissionError):  # an ordinary user sees the peak of the start, too
        Path(f"/proc/{node.pid}/clear_refs").write_text("5")


async def _besiege(enemy: Enemy, made: Consortium) -> None:
    target = Target(made.roster.member(made.site(0)))
    end_s = time.monotonic() + FLOOD_S
    floods: list[Coroutine[Any, Any, None]] = [
        _messages(enemy, made, end_s),
        _blobs(enemy, made, end_s),
        *(_streams(made, target, end_s) for _ in range(3)),
        _half_open(target, end_s),
        *(_strangers(target, end_s) for _ in range(2)),
    ]
    await asyncio.gather(*floods)


async def _messages(enemy: Enemy, made: Consortium, end_s: float) -> None:
    """Sound, stale and senseless messages, by stream and by the mesh."""
    site, number = made.site(0), 0
    while time.monotonic() < end_s:
        number += 1
        batch = (
            *enemy.decisions_about_nothing(5),
            replace(enemy.approval(), entry_seq=10**6 + number),
            os.urandom(60_000),
            enemy.signed(os.urandom(60_000)),
        )
        with contextlib.suppress(Exception):  # it may be cut off at any time
            await enemy.tell(site, *batch)
            await enemy.transport.broadcast(enemy.signed(os.urandom(2000)))
        await asyncio.sleep(0)


async def _blobs(enemy: Enemy, made: Consortium, end_s: float) -> None:
    """Announcements of models that do not exist, for every round to come."""
    site, round_ = made.site(0), 0
    ghost = replace(enemy.update(0, enemy.model()), inline=b"")
    while time.monotonic() < end_s:
        round_ = (round_ + 1) % 300
        with contextlib.suppress(Exception):
            await enemy.tell(site, replace(ghost, round=round_, hash=os.urandom(32)))
        await asyncio.sleep(0.001)


async def _streams(made: Consortium, target: Any, end_s: float) -> None:
    """Another connection under the same key, with as many streams as it is given."""
    while time.monotonic() < end_s:
        async with hostile(made.keys(2).transport) as member:
            with contextlib.suppress(Exception):
                await member.connect(target)
                for number in range(200):
                    data = os.urandom(30_000)
                    await member.say(target, PROTOCOLS[number % len(PROTOCOLS)], data)
        await asyncio.sleep(0.01)


async def _half_open(target: Any, end_s: float) -> None:
    """Sockets that say nothing, and some that say it slowly."""
    host, port = split_address(target.address)
    while time.monotonic() < end_s:
        writers = []
        with contextlib.suppress(OSError):
            for number in range(HALF_OPEN):
                _, writer = await asyncio.open_connection(host, port)
                writers.append(writer)
                if number % 2:
                    writer.write(b"\x13")
        await asyncio.sleep(0.5)
        for writer in writers:
            writer.close()


async def _strangers(target: Any, end_s: float) -> None:
    """A new sound key for every connection."""
    while time.monotonic() < end_s:
        async with hostile(os.urandom(32)) as stranger:
            with contextlib.suppress(Exception):
                await stranger.connect(target)
        await asyncio.sleep(0.01)
