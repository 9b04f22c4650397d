"""Founding, inviting and joining as people do it; the listener that answers invited sites."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_addresses
from ops_sites import done, found, p2pfl

from gossip.card import decode_card
from gossip.invitation import (
    AdmissionState,
    Invitation,
    invitation_line,
    read_invitation,
    seal_ask,
)
from gossip.keys import read_keys
from ledger.log import LogReader
from p2pfl.core import effects as fx
from p2pfl.core.membership import Membership
from p2pfl.runtime import admission as listener
from p2pfl.runtime.admission import Admission, ask_admission, frame
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    EXIT_USAGE,
    OperatorError,
)
from p2pfl.runtime.home import Home
from p2pfl.runtime.invitations import read_pending
from p2pfl.runtime.membership_files import load_membership, roster_in_force


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A consortium of one founder, whose vote alone decides, and two homes that are in none."""
    folder = tmp_path_factory.mktemp("joining")
    found(folder, sites=1)
    for name, port in (("berlin", 7301), ("bonn", 7302)):
        listen = ("--listen", f"127.0.0.1:{port}", "--consortium", "heart")
        done("init", "--home", folder / name, "--name", name, *listen)
    return folder


@pytest.fixture
def homes(made: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    copy = tmp_path / "c"
    shutil.copytree(made, copy)
    return copy / "site0", copy / "berlin", copy / "bonn"


def test_create_shows_words_signs_and_says_what_comes_next(tmp_path: Path) -> None:
    for index, name in enumerate(("north", "east")):
        listen = ("--listen", f"127.0.0.1:{7311 + index}", "--consortium", "heart")
        done("init", "--home", tmp_path / name, "--name", name, *listen)
    out, east = tmp_path / "heart.roster", tmp_path / "east" / "east.card"
    refused = p2pfl("consortium", "create", east, "-o", out, "--home", tmp_path / "north")
    assert refused.code == EXIT_REFUSED
    assert not out.exists()
    ran = done("consortium", "create", east, "-o", out, "--yes", "--home", tmp_path / "north")
    words = done("keys", "show", "--home", tmp_path / "east", "--json").json["words"]
    assert len(words.split()) == 8
    assert words in " ".join(ran.out.split())
    assert "telephone" in ran.out
    assert "p2pfl roster sign heart.roster" in " ".join(ran.out.split())
    assert max(map(len, ran.out.splitlines())) <= 80
    done("roster", "sign", out, "--home", tmp_path / "east")
    done("roster", "install", out, "--home", tmp_path / "north")
    for name in ("north", "east"):
        shown = done("consortium", "show", "--home", tmp_path / name, "--json").json
        assert {m["name"] for m in shown["roster"]["members"]} == {"north", "east"}
        told = done("roster", "show", "--home", tmp_path / name).out
        assert shown["words"] in " ".join(told.split())


def test_an_invitation_a_reply_and_a_vote_make_a_member(homes: tuple[Path, Path, Path]) -> None:
    north, berlin, _ = homes
    invited = done("consortium", "invite", "--home", north, "--json").json
    assert p2pfl("consortium", "join", invited["line"], "--home", berlin).code == EXIT_REFUSED
    joining = done("consortium", "join", invited["line"], "--home", berlin, "--json").json
    assert joining["standing"] == "reply"
    shown = done("consortium", "accept", joining["reply"], "--yes", "--home", north).out
    words = done("keys", "show", "--home", berlin, "--json").json["words"]
    assert words in " ".join(shown.split())
    roster = done("roster", "show", "--home", north, "--json").json
    assert {m["name"] for m in roster["members"]} == {"site0", "berlin"}
    chain = north.parent / "chain"
    done("roster", "export", "--out", chain, "--home", north)
    done("roster", "install", chain, "--home", berlin)
    assert done("roster", "show", "--home", berlin, "--json").json["digest"] == roster["digest"]
    assert done("ledger", "audit", "--home", berlin).code == 0
    again = p2pfl("consortium", "join", invited["line"], "--home", berlin, "--yes")
    assert again.code == EXIT_CANNOT_CREATE


def test_an_invitation_is_for_one_site_and_for_its_time(homes: tuple[Path, Path, Path]) -> None:
    north, berlin, bonn = homes
    line = done("consortium", "invite", "--home", north, "--json").json["line"]
    first = done("consortium", "join", line, "--home", berlin, "--json").json["reply"]
    second = done("consortium", "join", line, "--home", bonn, "--json").json["reply"]
    done("consortium", "accept", first, "--yes", "--home", north)
    taken = p2pfl("consortium", "accept", second, "--yes", "--home", north)
    assert taken.code == EXIT_REFUSED
    assert "berlin" in taken.err
    old = replace(read_invitation(line), expires_s=int(time.time()) - 1)  # noqa: TID251 - a test
    expired = p2pfl("consortium", "join", invitation_line(old), "--home", bonn, "--yes")
    assert expired.code == EXIT_REFUSED
    assert "expired" in expired.err


def test_lines_that_are_none_of_ours_are_refused_with_what_helps(
    homes: tuple[Path, Path, Path],
) -> None:
    north, berlin, _ = homes
    line = done("consortium", "invite", "--home", north, "--json").json["line"]
    reply = done("consortium", "join", line, "--home", berlin, "--json").json["reply"]
    for wrong in (line[:-5], "hello", reply):
        assert p2pfl("consortium", "join", wrong, "--home", berlin, "--yes").code == EXIT_DATA
    broken = reply[:60] + ("A" if reply[60] != "A" else "B") + reply[61:]
    assert p2pfl("consortium", "accept", broken, "--yes", "--home", north).code == EXIT_DATA
    nobody = p2pfl("consortium", "accept", "oslo", "--yes", "--home", north)
    assert nobody.code == EXIT_NO_INPUT
    none = p2pfl("consortium", "join", line, "--home", north.parent / "none", "--yes")
    assert none.code == EXIT_NO_INPUT
    assert "--consortium heart" in none.err
    assert p2pfl("consortium", "invite", "--hours", "0", "--home", north).code == EXIT_USAGE
    where = ("--admission", "nowhere", "--home", north)
    assert p2pfl("consortium", "invite", *where).code == EXIT_USAGE
    other = ("--listen", "127.0.0.1:7309", "--consortium", "lung")
    done("init", "--home", north.parent / "lung", "--name", "lung", *other)
    lung = p2pfl("consortium", "join", line, "--home", north.parent / "lung", "--yes")
    assert lung.code == EXIT_DATA
    assert "lung" in lung.err


def test_secrets_of_invitations_lie_in_private_files_and_end_with_them(
    homes: tuple[Path, Path, Path],
) -> None:
    north, berlin, _ = homes
    invited = done("consortium", "invite", "--home", north, "--json").json
    done("consortium", "join", invited["line"], "--home", berlin, "--yes")
    kept = [*(north / "invitations").iterdir(), berlin / "invited"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    shown = done("consortium", "show", "--home", north, "--json")
    secret = read_invitation(invited["line"]).secret
    assert invited["line"] not in shown.out
    assert secret.hex() not in shown.out
    for index in range(7):
        done("consortium", "invite", "--hours", index + 1, "--home", north)
    assert p2pfl("consortium", "invite", "--home", north).code == EXIT_REFUSED
    done("consortium", "withdraw", invited["id"][:12], "--home", north)
    assert len(list((north / "invitations").iterdir())) == 7
    reply = done("consortium", "join", "--home", berlin, "--json").json["reply"]
    late = p2pfl("consortium", "accept", reply, "--yes", "--home", north)
    assert late.code == EXIT_NO_INPUT


# -- the listener --------------------------------------------------------------------------------


class Stage:
    """A home's listener in this process, with a clock that a test moves."""

    def __init__(self, north: Path, invitations: int = 1) -> None:
        self.home = Home(north)
        self.now_s = time.time()  # noqa: TID251 - where the test's own clock begins
        self.told: list[fx.Happened] = []
        self.closed = asyncio.Event()
        self.address = free_addresses(1)[0]
        self.lines = [
            done(
                "consortium", "invite", "--admission", self.address, "--home", north, "--json"
            ).json["line"]
            for _ in range(invitations)
        ]
        self.admission = Admission(
            self.home,
            "127.0.0.1",
            self.membership,
            clock_s=lambda: self.now_s,
            random_bytes=os.urandom,
            show=self.show,
        )

    def show(self, notice: fx.Happened) -> None:
        self.told.append(notice)
        if notice.name == "admission_closed":
            self.closed.set()

    @property
    def invitation(self) -> Invitation:
        return read_invitation(self.lines[0])

    def membership(self) -> Membership:
        roster = roster_in_force(self.home)
        assert roster is not None
        with closing(LogReader.open(self.home.path)) as reader:
            return load_membership(
                self.home, read_keys(self.home.keys), roster, list(reader.entries())
            )

    def run(self, play: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def playing() -> None:
            await self.admission.refresh()
            try:
                await play()
            finally:
                await self.admission.stop()

        asyncio.run(playing())

    async def say(self, raw: bytes, *, ends: bool = True) -> bytes:
        """What a stranger hears back."""
        host, _, port = self.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(raw)
            if ends:
                writer.write_eof()
            return await reader.read(100)
        except ConnectionError:
            return b""
        finally:
            writer.close()


def card_of(home: Path) -> Any:
    return decode_card((home / f"{home.name}.card").read_bytes())


async def asked(invitation: Invitation, home: Path) -> AdmissionState:
    chains: list[bytes] = []
    answer = await ask_admission(invitation, card_of(home), chains.append, random_bytes=os.urandom)
    return answer.state


def test_the_listener_takes_a_card_and_hands_out_the_chain_once(
    homes: tuple[Path, Path, Path],
) -> None:
    north, berlin, bonn = homes
    stage = Stage(north)

    async def play() -> None:
        assert await asked(stage.invitation, berlin) is AdmissionState.WAITING
        assert await asked(stage.invitation, berlin) is AdmissionState.WAITING
        assert await asked(stage.invitation, bonn) is AdmissionState.TAKEN
        await asyncio.to_thread(done, "consortium", "accept", "--yes", "--home", north)
        join = ("consortium", "join", stage.lines[0], "--home", berlin, "--json")
        joined = (await asyncio.to_thread(done, *join)).json
        assert joined["standing"] == "member"
        await stage.closed.wait()
        with pytest.raises(OSError, match=r".*"):
            await asked(stage.invitation, berlin)

    stage.run(play)
    assert read_pending(stage.home, stage.now_s) == []
    assert [notice.name for notice in stage.told].count("applicant") == 1
    shown = done("consortium", "show", "--home", berlin, "--json").json
    assert {m["name"] for m in shown["roster"]["members"]} == {"site0", "berlin"}
    assert not (berlin / "invited").exists()


def test_the_listener_says_nothing_to_whoever_has_no_secret(
    homes: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    north, berlin, _ = homes
    stage, card = Stage(north), card_of(berlin)
    ask = seal_ask(bytes(32), bytes(16), card, os.urandom)
    right = frame(seal_ask(stage.invitation.secret, bytes(16), card, os.urandom))
    changed = right[:-1] + bytes((right[-1] ^ 1,))
    hostile = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(4096),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        frame(ask),
        frame(b"\0" * 4096),
        right[:-1],
        changed,
        b"/multistream/1.0.0\n",
    ]

    async def play() -> None:
        for raw in hostile:
            assert await stage.say(raw) == b""
        monkeypatch.setattr(listener, "ASK_S", 0.05)
        assert await stage.say(right[:10], ends=False) == b""  # slow: cut off, nothing heard

    stage.run(play)
    assert read_pending(stage.home, stage.now_s)[0].applicant is None
    assert [notice.name for notice in stage.told] == ["admission_open", "admission_closed"]


def test_many_idle_connections_do_not_keep_the_invited_site_out(
    homes: tuple[Path, Path, Path],
) -> None:
    north, berlin, _ = homes
    stage = Stage(north)

    async def play() -> None:
        host, _, port = stage.address.rpartition(":")
        idle = [
            await asyncio.open_connection(host, int(port))
            for _ in range(3 * listener.CONNECTIONS_MAX)
        ]
        assert await asked(stage.invitation, berlin) is AdmissionState.WAITING
        assert await idle[0][0].read(1) == b""  # the oldest was cut off
        for _, writer in idle:
            writer.close()

    stage.run(play)


def test_an_expired_or_withdrawn_invitation_is_answered_no_more(
    homes: tuple[Path, Path, Path],
) -> None:
    north, berlin, _ = homes
    stage = Stage(north, invitations=2)

    async def play() -> None:
        done("consortium", "withdraw", stage.invitation.id.hex()[:12], "--home", north)
        await stage.admission.refresh()
        with pytest.raises(EOFError):  # the other invitation keeps the port open
            await asked(stage.invitation, berlin)
        stage.now_s += 49 * 3600
        other = read_invitation(stage.lines[1])
        with pytest.raises(EOFError):
            await asked(other, berlin)
        await stage.admission.refresh()
        assert not stage.admission.ports
        assert not list(stage.home.invitations.iterdir())

    stage.run(play)


def test_a_port_that_is_taken_is_told_to_the_inviter(homes: tuple[Path, Path, Path]) -> None:
    stage = Stage(homes[0])

    async def play() -> None:
        other = Admission(
            stage.home,
            "127.0.0.1",
            stage.membership,
            clock_s=lambda: stage.now_s,
            random_bytes=os.urandom,
            show=stage.told.append,
        )
        with pytest.raises(OperatorError, match="port"):
            await other.refresh()
        await other.stop()

    stage.run(play)


def test_rosters_of_another_consortium_are_not_installed(homes: tuple[Path, Path, Path]) -> None:
    """Who holds the line could answer in the inviter's place, but not with another roster."""
    north, berlin, _ = homes
    stage = Stage(north)
    done("roster", "propose-add", berlin / "berlin.card", "--home", north)
    wrong = replace(stage.invitation, roster=bytes(32))  # type: ignore[arg-type]  # a digest

    async def play() -> None:
        join = ("consortium", "join", invitation_line(wrong), "--home", berlin, "--yes")
        ran = await asyncio.to_thread(p2pfl, *join)
        assert ran.code == EXIT_DATA
        assert "not those that the invitation speaks of" in ran.err

    stage.run(play)
    assert not (berlin / "roster" / "current.roster").exists()
