"""Votes on who is a member, typed at homes whose nodes are stopped; votes travel as their files."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from ops_sites import done, found, p2pfl

from ledger.log import LogReader
from ledger.provenance import kinds
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, EXIT_DATA, EXIT_NO_INPUT, EXIT_REFUSED
from p2pfl.runtime.home import Home


@pytest.fixture(scope="session")
def two_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two founders, and a third home that wants to join."""
    directory = tmp_path_factory.mktemp("members")
    found(directory, sites=2, first_port=7401)
    options = ("--name", "site2", "--listen", "127.0.0.1:7409", "--consortium", "heart")
    done("init", "--home", directory / "site2", *options)
    return directory


@pytest.fixture
def two(two_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(two_once, tmp_path / "c")
    return tmp_path / "c"


def hand_over(folder: Path, sender: int, to: int) -> None:
    """What one home knows of the vote goes to the other, as their nodes would tell it."""
    shutil.copy(folder / f"site{sender}/roster/votes", folder / f"site{to}/roster/votes")


def vote_in(folder: Path) -> str:
    """Both founders vote the third site in; the chain lies in a file then."""
    one, other = folder / "site0", folder / "site1"
    seen = done("roster", "propose-add", folder / "site2/site2.card", "--home", one, "--json").json
    hand_over(folder, 0, 1)
    done("roster", "sign", "--yes", "--home", other)
    hand_over(folder, 1, 0)
    done("roster", "sign", "--yes", "--home", one)
    done("roster", "export", "--out", folder / "chain", "--home", one)
    digest: str = seen["proposals"][0]["digest"]
    return digest


def records(home: Path) -> list[str]:
    with closing(LogReader.open(home)) as reader:
        return [e.kind for e in reader.entries() if e.kind.startswith(("roster.", "card."))]


# -- joining -------------------------------------------------------------------------------------


def test_a_proposal_says_what_it_changes_and_who_has_to_sign(two: Path) -> None:
    said = done("roster", "propose-add", two / "site2/site2.card", "--home", two / "site0").out
    assert "adds site2, 127.0.0.1:7409, fingerprint" in said
    assert "signed by site0" in said
    assert "1 of 2 signatures" in said
    assert "ask site1" in said
    assert max(map(len, said.splitlines())) <= 80
    assert records(two / "site0") == ["roster.changed", "roster.proposed", "roster.signed"]


def test_two_founders_vote_a_third_site_in_and_it_installs_the_chain(two: Path) -> None:
    digest = vote_in(two)
    one, other, third = (two / f"site{number}" for number in range(3))
    shown = done("roster", "show", "--home", one, "--json").json
    assert (shown["version"], shown["digest"]) == (2, digest)
    assert [member["name"] for member in shown["members"]].count("site2") == 1
    assert shown["missing"] == []
    done("roster", "install", two / "chain", "--home", third)
    done("roster", "install", two / "chain", "--home", other)
    for home in (one, other, third):
        assert done("roster", "show", "--home", home, "--json").json["digest"] == digest
        assert done("ledger", "verify", "--home", home).code == 0
        assert done("ledger", "audit", "--home", home).code == 0
    history = done("roster", "history", "--home", other).out
    assert "adds site2" in history
    assert "by vote of site0, site1" in history
    assert records(one)[-2:] == ["roster.accepted", "roster.changed"]
    assert records(third) == ["roster.changed"]


def test_a_lost_identity_is_replaced_by_a_vote(two: Path) -> None:
    one, other, card = two / "site0", two / "site1", two / "site2/site2.card"
    said = done("roster", "propose-replace", "site1", card, "--home", one).out
    assert "site1" in said
    assert "site2" in said
    hand_over(two, 0, 1)
    done("roster", "sign", "--yes", "--home", other)  # who is to go votes, too
    hand_over(two, 1, 0)
    done("roster", "sign", "--yes", "--home", one)
    shown = done("roster", "show", "--home", one, "--json").json
    assert shown["version"] == 2
    assert sorted(member["name"] for member in shown["members"]) == ["site0", "site2"]
    done("roster", "export", "--out", two / "chain", "--home", one)
    done("roster", "install", two / "chain", "--home", two / "site2")
    assert done("ledger", "audit", "--home", one).code == 0


def test_a_chain_that_does_not_know_the_site_is_refused(two: Path) -> None:
    done("roster", "export", "--out", two / "chain", "--home", two / "site0")
    ran = p2pfl("roster", "install", two / "chain", "--home", two / "site2")
    assert ran.code == EXIT_DATA
    assert "holds no card of this site" in ran.err


def test_a_chain_is_not_written_over_a_file(two: Path) -> None:
    done("roster", "export", "--out", two / "chain", "--home", two / "site0")
    ran = p2pfl("roster", "export", "--out", two / "chain", "--home", two / "site0")
    assert ran.code == EXIT_CANNOT_CREATE


def test_another_consortiums_chain_is_refused(two: Path, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    others = found(tmp_path / "others", sites=2, first_port=7501)
    done("roster", "export", "--out", two / "chain", "--home", others[0])
    ran = p2pfl("roster", "install", two / "chain", "--home", two / "site0")
    assert ran.code == EXIT_DATA
    assert "does not contain the roster in force here" in ran.err


# -- what one may say ----------------------------------------------------------------------------


def test_a_member_signs_one_proposal_per_vote_until_it_votes_again(two: Path) -> None:
    one, other = two / "site0", two / "site1"
    done("roster", "propose-add", two / "site2/site2.card", "--home", one)
    refused = p2pfl("roster", "propose-remove", "site1", "--home", one)
    assert refused.code == EXIT_REFUSED
    assert "one proposal per vote" in refused.err
    assert "vote-again" in refused.err
    done("roster", "propose-remove", "site0", "--home", other)
    done("roster", "vote-again", "--yes", "--home", one)
    waiting = done("roster", "status", "--home", one).out
    assert "Vote 1 is closed here; 1 more has to vote again." in waiting
    refused = p2pfl("roster", "propose-remove", "site1", "--home", other)
    assert refused.code == EXIT_REFUSED
    hand_over(two, 0, 1)  # the other founder's own proposal is known from its ledger alone now
    done("roster", "vote-again", "--yes", "--home", other)
    seen = done("roster", "status", "--home", other, "--json").json
    assert (seen["vote"], seen["version"]) == (2, 1)
    done("roster", "sign", "--yes", "--home", other)
    hand_over(two, 1, 0)
    done("roster", "sign", "--yes", "--home", one)
    hand_over(two, 0, 1)
    hand_over(two, 0, 1)
    done("roster", "vote-again", "--yes", "--home", other)
    assert done("roster", "show", "--home", other, "--json").json["version"] == 2
    assert done("ledger", "audit", "--home", other).code == 0


def test_nothing_is_signed_without_a_yes(two: Path) -> None:
    done("roster", "propose-add", two / "site2/site2.card", "--home", two / "site0")
    hand_over(two, 0, 1)
    ran = p2pfl("roster", "sign", "--home", two / "site1")
    assert ran.code == EXIT_REFUSED
    assert "adds site2" in ran.out
    assert "Nothing was signed" in ran.err
    assert "roster.signed" not in records(two / "site1")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("sign", "--yes"), EXIT_NO_INPUT, "No such proposal"),
        (("sign", "abcdef123456", "--yes"), EXIT_NO_INPUT, "No such proposal"),
        (("propose-remove", "nobody"), EXIT_NO_INPUT, "is not one member"),
        (("set-address",), 64, "Say where this site is dialled"),
        (("set-address", "no-port"), 64, "announce"),
    ],
)
def test_a_slip_is_answered_with_what_to_do(
    two: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    ran = p2pfl("roster", *words, "--home", two / "site0")
    assert ran.code == code
    assert told in ran.err


def test_a_home_without_a_roster_has_no_votes(two: Path) -> None:
    ran = p2pfl("roster", "status", "--home", two / "site2")
    assert ran.code == EXIT_NO_INPUT


def test_who_voted_does_not_sign_another_file_for_the_same_version(two: Path) -> None:
    one = two / "site0"
    done("roster", "propose-add", two / "site2/site2.card", "--home", one)
    Home(one).card("site0").write_bytes(_renewed_card(one))
    done("roster", "renew", one / "site0.card", "-o", two / "next.roster", "--home", one)
    ran = p2pfl("roster", "sign", two / "next.roster", "--home", one)
    assert ran.code == EXIT_REFUSED
    assert "spoke for" in ran.err


def _renewed_card(home: Path) -> bytes:
    from gossip.card import decode_card, encode_card, sign_card
    from gossip.keys import read_keys

    card = decode_card((home / "site0.card").read_bytes())
    keys = read_keys(home / "keys")
    moved = sign_card(keys, name=card.name, log_id=card.log_id, addresses=["127.0.0.1:7499"])
    return encode_card(moved)


def test_a_removed_home_says_so_and_still_reads_its_ledger(two: Path) -> None:
    one, other = two / "site0", two / "site1"
    done("roster", "propose-remove", "site1", "--home", one)
    hand_over(two, 0, 1)
    done("roster", "sign", "--yes", "--home", other)
    hand_over(two, 1, 0)
    done("roster", "sign", "--yes", "--home", one)
    done("roster", "export", "--out", two / "chain", "--home", one)
    done("roster", "install", two / "chain", "--home", other)
    said = done("roster", "status", "--home", other).out
    assert "no member of heart any more" in " ".join(said.split())
    ran = p2pfl("node", "start", "--home", other)
    assert ran.code == EXIT_REFUSED
    assert "no member of heart any more" in ran.err
    refused = p2pfl("roster", "set-address", "127.0.0.1:7499", "--home", other)
    assert refused.code == EXIT_REFUSED
    assert done("ledger", "audit", "--home", other).code == 0


# -- addresses -----------------------------------------------------------------------------------


def test_a_new_address_needs_no_vote(two: Path) -> None:
    one = two / "site0"
    told = done("roster", "set-address", "127.0.0.1:7444", "--home", one, "--json").json
    assert told["serial"] == 1
    done("roster", "set-address", "127.0.0.1:7445", "--home", one)
    with closing(LogReader.open(one)) as reader:
        newest = [e for e in reader.entries() if e.kind == kinds.CardRenewed.KIND]
    assert [entry.body["serial"] for entry in newest] == [1, 2]
    assert 'announce = [\n    "127.0.0.1:7445",\n]' in (one / "config.toml").read_text()
    taken = p2pfl("roster", "set-address", "127.0.0.1:7402", "--home", one)
    assert taken.code == EXIT_REFUSED
    assert "Another member has one of these addresses" in taken.err
    assert done("ledger", "audit", "--home", one).code == 0


# -- files ---------------------------------------------------------------------------------------


def test_a_stop_between_the_entry_and_the_roster_is_made_up_for(two: Path) -> None:
    one = two / "site0"
    before = (one / "roster/current.roster").read_bytes()
    digest = vote_in(two)
    (one / "roster/current.roster").write_bytes(before)
    done("roster", "status", "--home", one)
    assert done("roster", "show", "--home", one, "--json").json["digest"] == digest


def test_a_stop_before_the_entry_changes_nothing(two: Path) -> None:
    one, other = two / "site0", two / "site1"
    vote_in(two)
    link = "roster/links"
    shutil.copytree(one / link, other / link)
    done("roster", "status", "--home", other)
    assert done("roster", "show", "--home", other, "--json").json["version"] == 1


@pytest.mark.parametrize("name", ["votes", "cards", "first.roster", "links/00000002.link"])
def test_a_damaged_file_is_named_with_what_helps(two: Path, name: str) -> None:
    one = two / "site0"
    vote_in(two)
    done("roster", "set-address", "127.0.0.1:7444", "--home", one)
    path = one / "roster" / name
    raw = bytearray(path.read_bytes())
    raw[0 if name == "votes" else len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    ran = p2pfl("roster", "status", "--home", one)
    assert ran.code == EXIT_DATA, ran.err
    assert "damaged" in ran.err
    assert "Move" in ran.err


def test_homes_from_before_votes_open_unchanged(two: Path) -> None:
    assert sorted(path.name for path in (two / "site0/roster").iterdir()) == ["current.roster"]
    seen = done("roster", "status", "--home", two / "site0", "--json").json
    assert (seen["version"], seen["vote"], seen["proposals"]) == (1, 1, [])
    assert sorted(path.name for path in (two / "site0/roster").iterdir()) == ["current.roster"]
