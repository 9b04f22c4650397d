"""Invitations and replies that are not what they have to be."""

from __future__ import annotations

import time
from dataclasses import replace

from mistakes_stage import Stage
from mistakes_table import Row
from ops_sites import done, p2pfl

from gossip.invitation import invitation_line, read_invitation


def invitation(stage: Stage) -> str:
    """A line for a new site, from a member."""
    line: str = done("consortium", "invite", "--home", stage.home, "--json").json["line"]
    return line


def new_home(stage: Stage, consortium: str = "heart") -> str:
    """A home that is in no consortium yet."""
    home = str(stage.path / "bonn")
    listen = ("--listen", "127.0.0.1:7100", "--consortium", consortium)
    done("init", "--name", "bonn", *listen, "--home", home)
    return home


def reply(stage: Stage, line: str) -> str:
    """What a new site sends back."""
    ran = done("consortium", "join", line, "--home", new_home(stage), "--json")
    answer: str = ran.json["reply"]
    return answer


def test_invitation_was_cut(row: Row, stage: Stage) -> None:
    stage.refused(row, "consortium", "join", invitation(stage)[:-9], "--yes")


def test_invitation_to_another_consortium(row: Row, stage: Stage) -> None:
    home = new_home(stage, consortium="lung")
    row.check(p2pfl("consortium", "join", invitation(stage), "--yes", "--home", home))


def test_invitation_has_expired(row: Row, stage: Stage) -> None:
    made = read_invitation(invitation(stage))
    old = replace(made, expires_s=int(time.time()) - 1)  # noqa: TID251 - older than any test
    stage.refused(row, "consortium", "join", invitation_line(old), "--yes")


def test_joins_before_init(row: Row, stage: Stage) -> None:
    nowhere = stage.path / "nowhere"
    row.check(p2pfl("consortium", "join", invitation(stage), "--yes", "--home", nowhere))


def test_joins_again(row: Row, stage: Stage) -> None:
    stage.refused(row, "consortium", "join", invitation(stage), "--yes")


def test_reply_was_changed(row: Row, stage: Stage) -> None:
    said = reply(stage, invitation(stage))
    changed = said[:60] + ("A" if said[60] != "A" else "B") + said[61:]
    stage.refused(row, "consortium", "accept", changed, "--yes")


def test_invitation_was_withdrawn(row: Row, stage: Stage) -> None:
    line = invitation(stage)
    said = reply(stage, line)
    done("consortium", "withdraw", read_invitation(line).id.hex()[:12], "--home", stage.home)
    stage.refused(row, "consortium", "accept", said, "--yes")


def test_admission_is_no_address(row: Row, stage: Stage) -> None:
    stage.refused(row, "consortium", "invite", "--admission", "198.51.100.1")
