"""What the doctor says about witnesses, from a home's real files."""

import time
from contextlib import closing
from pathlib import Path

import pytest
from node_homes import Consortium, found
from node_lies import own_log_forked, witness_lied

from ledger.log import Log, LogReader, Signer, cosign
from ledger.log.witness_store import WITNESS_NAME, WitnessDatabase
from ledger.provenance import kinds
from p2pfl.core.witnessing_terms import log_key, witness_key
from p2pfl.runtime.commands.doctoring import Check, Level
from p2pfl.runtime.commands.doctoring_witnesses import check_witnesses

NOW_S = int(time.time())  # noqa: TID251 - the ledgers below were written just now
DAY_S = 86_400


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return found(tmp_path_factory.mktemp("doctor") / "c", 3)


@pytest.fixture
def made(three: Consortium, tmp_path: Path) -> Consortium:
    made = three.copied(tmp_path / "c")
    WitnessDatabase.open(made.home(0).path / WITNESS_NAME).close()
    return made


def cosigned(made: Consortium, *by: int, ago_s: int = 60, size: int | None = None) -> None:
    """As if these sites had cosigned a head of the first one's ledger."""
    with closing(LogReader.open(made.home(0).path)) as reader:
        head = reader.checkpoint
        if size is not None:
            head = type(head)(head.origin, size, reader.root_at(size))
    with closing(WitnessDatabase.open(made.home(0).path / WITNESS_NAME)) as book:
        for index in by:
            name = witness_key(made.roster.member(made.site(index))).name
            key = Signer(made.keys(index).witness)
            line = cosign(head.text, name, key, NOW_S - ago_s)
            book.put_own_cosignature(head.size, head.root, line, NOW_S - ago_s)


def one_more_entry(made: Consortium) -> None:
    with closing(Log.open(made.home(0).path, log=Signer(made.keys(0).log))) as log:
        log.append([kinds.ClockAnomaly(1).draft("node")], NOW_S * 1_000_000)


def diagnosis(made: Consortium) -> list[Check]:
    return list(check_witnesses(made.home(0), now_us=NOW_S * 1_000_000))


def test_a_quorum_of_witnesses_of_today_is_fine(made: Consortium) -> None:
    cosigned(made, 1, 2)
    assert [check.level for check in diagnosis(made)] == [Level.OK]


def test_a_newest_head_without_its_quorum_is_named_with_what_lacks(made: Consortium) -> None:
    cosigned(made, 1, 2)
    one_more_entry(made)
    cosigned(made, 1)
    (said,) = diagnosis(made)
    assert said.level is Level.WARN
    assert "1 of 5 entries are not cosigned yet by the 2 sites" in said.sentence


def test_witnesses_that_are_silent_for_a_day_are_named(made: Consortium) -> None:
    cosigned(made, 1, 2, ago_s=3 * DAY_S)
    cosigned(made, 1, size=3)
    quorum, silent = diagnosis(made)
    assert quorum.level is Level.OK
    assert silent.level is Level.WARN
    assert "1 of 2 sites cosigned nothing" in silent.sentence
    assert silent.sentence.endswith("site2.")


def test_nobody_ever_cosigned(made: Consortium) -> None:
    quorum, silent = diagnosis(made)
    assert (quorum.level, silent.level) == (Level.WARN, Level.WARN)
    assert "site1, site2" in silent.sentence


def test_proofs_against_others_are_counted_and_a_liars_cosignature_is_not(
    made: Consortium,
) -> None:
    cosigned(made, 1, 2)
    witness_lied(made, liar=2, owner=1)
    proofs, quorum, silent = diagnosis(made)
    assert "1 proof(s)" in proofs.sentence
    assert "4 of 4 entries are not cosigned" in quorum.sentence
    assert silent.sentence.endswith("site2.")


def test_a_frozen_own_ledger_is_a_failure_that_names_the_command(made: Consortium) -> None:
    own_log_forked(made)
    (said,) = diagnosis(made)
    assert said.level is Level.FAIL
    assert "new-incarnation" in said.fix


def test_a_ledger_that_is_shorter_than_a_head_that_others_hold_has_lost_its_end(
    made: Consortium,
) -> None:
    roster, card = made.roster, made.roster.member(made.site(0))
    backup = made.copied(made.folder.parent / "backup")
    one_more_entry(made)
    with closing(LogReader.open(made.home(0).path)) as reader:
        note = reader.note
    with closing(WitnessDatabase.open(backup.home(0).path / WITNESS_NAME)) as book:
        book.set_logs({reader.log_id: log_key(roster.consortium, card)})
        assert book.note_seen(reader.log_id, note, NOW_S * 1_000_000) is None
    (said,) = diagnosis(backup)
    assert said.level is Level.FAIL
    assert "has 4 entries, but a head of 5 was released" in said.sentence
    assert "p2pfl ledger recover" in said.fix
