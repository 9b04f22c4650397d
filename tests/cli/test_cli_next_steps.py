"""Founding and joining: each command shows what is so now, and says what comes next."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from ops_sites import Ran, done, found, p2pfl

from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, EXIT_REFUSED

HEART = ("--consortium", "heart")


class _Terminal(io.StringIO):
    """Somebody types at a terminal."""

    def isatty(self) -> bool:
        return True


def _new(folder: Path, name: str, port: int) -> Path:
    home = folder / name
    done("init", "--home", home, "--name", name, "--listen", f"127.0.0.1:{port}", *HEART)
    return home


def _text(ran: Ran) -> str:
    return " ".join(f"{ran.out} {ran.err}".split())


@pytest.fixture
def north(tmp_path: Path) -> Path:
    """A consortium of one founder, whose vote alone decides."""
    [home] = found(tmp_path, sites=1, first_port=7501)
    return home


def test_the_founding_roster_is_shown_and_asked_about_before_it_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = _new(tmp_path, "north", 7511), _new(tmp_path, "east", 7512)
    roster = tmp_path / "heart.roster"
    cards = (one / "north.card", other / "east.card")
    done("roster", "create", *cards, "-o", roster, "--home", one)
    before = roster.read_bytes()
    monkeypatch.setattr("sys.stdin", _Terminal("n\n"))
    refused = p2pfl("roster", "sign", roster, "--home", one)
    assert (refused.code, "Nothing was signed" in refused.err) == (EXIT_REFUSED, True)
    assert "Run it again if you agree later" in refused.err
    words = done("keys", "show", "--home", other, "--json").json["words"]
    assert words in _text(refused)
    assert roster.read_bytes() == before
    monkeypatch.setattr("sys.stdin", _Terminal("y\n"))
    said = _text(done("roster", "sign", roster, "--home", one))
    assert "Hand heart.roster to east: `p2pfl roster sign heart.roster`" in said
    last = _text(done("roster", "sign", roster, "--yes", "--home", other))
    assert "Hand heart.roster to north: `p2pfl roster install heart.roster`" in last


def test_the_roster_shows_where_members_are_dialled_now(north: Path) -> None:
    done("roster", "set-address", "127.0.0.1:7544", "--home", north)
    shown = done("roster", "show", "--home", north).out
    [row] = [line for line in shown.splitlines() if line.startswith("site0  ")]
    assert "127.0.0.1:7544" in row
    assert "announced its address after version 1, which has 127.0.0.1:7501" in " ".join(
        shown.split()
    )
    [member] = done("roster", "show", "--home", north, "--json").json["members"]
    assert member["addresses"] == ["127.0.0.1:7544"]
    assert member["addresses_voted"] == ["127.0.0.1:7501"]
    done("roster", "set-address", "--dial-only", "--home", north)
    assert "dials only" in done("consortium", "show", "--home", north).out


def test_who_was_voted_in_is_no_applicant_any_more(north: Path, tmp_path: Path) -> None:
    berlin = _new(tmp_path, "berlin", 7502)
    line = done("consortium", "invite", "--home", north, "--json").json["line"]
    reply = done("consortium", "join", line, "--home", berlin, "--json").json["reply"]
    done("consortium", "accept", reply, "--yes", "--home", north)
    shown = _text(done("consortium", "show", "--home", north))
    assert "berlin is a member now" in shown
    assert "p2pfl roster export --out FILE" in shown
    assert "consortium accept" not in shown
    again = p2pfl("consortium", "accept", reply, "--yes", "--home", north)
    assert (again.code, "berlin was voted in already" in again.err) == (EXIT_REFUSED, True)
    assert "p2pfl roster export --out FILE" in _text(again)
    done("consortium", "invite", "--home", north)
    [waiting] = done("consortium", "show", "--home", north, "--json").json["invitations"]
    assert waiting["applicant"] is None, "a used one makes room for others"


def test_an_applicant_asks_again_without_being_asked_again(north: Path, tmp_path: Path) -> None:
    berlin = _new(tmp_path, "berlin", 7502)
    alone = _text(p2pfl("node", "start", "--home", berlin))
    assert "Invited: `p2pfl consortium join`" in alone
    line = done("consortium", "invite", "--home", north, "--json").json["line"]
    unsure = p2pfl("consortium", "join", line, "--home", berlin)
    assert (unsure.code, "Nothing was sent" in unsure.err) == (EXIT_REFUSED, True)
    assert "If one word differs, do not join" in _text(unsure)
    done("consortium", "join", line, "--yes", "--home", berlin)
    again = done("consortium", "join", "--home", berlin).out
    assert "p2pfl-reply-1" in again
    assert "its words" not in again
    member = p2pfl("consortium", "join", "--home", north)
    assert (member.code, "belongs to heart already" in member.err) == (EXIT_CANNOT_CREATE, True)


def test_a_site_that_was_removed_is_not_told_to_invite(tmp_path: Path) -> None:
    one, other = found(tmp_path, sites=2, first_port=7521)
    done("roster", "propose-remove", "site1", "--home", one)
    votes = "roster/votes"
    (other / votes).write_bytes((one / votes).read_bytes())
    done("roster", "sign", "--yes", "--home", other)
    (one / votes).write_bytes((other / votes).read_bytes())
    done("roster", "sign", "--yes", "--home", one)
    done("roster", "export", "--out", tmp_path / "chain", "--home", one)
    done("roster", "install", tmp_path / "chain", "--home", other)
    shown = _text(done("consortium", "show", "--home", other))
    assert "This site is no member any more" in shown
    assert "consortium invite" not in shown
