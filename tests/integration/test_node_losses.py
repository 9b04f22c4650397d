"""After a loss a node is read-only and names the command that heals; that command heals it."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bridged_transport import dialling
from node_homes import Consortium, audit_code, entries, found, p2pfl, p2pfl_json
from node_mending import (
    forget_entries,
    healed,
    incarnated,
    lose_disk,
    mirrored,
    nodes_of,
    now_us,
    recovered,
    sign_next_roster,
    until,
)

from gossip.memory_transport import Switchboard
from ledger.log import Log, LogId, LogReader, Signer
from ledger.log.witness_store import WitnessDatabase
from ledger.provenance import kinds
from ledger.provenance.readers import Readers, readers_of
from p2pfl.cli.main import main
from p2pfl.core.events import OwnLog
from p2pfl.runtime.commands.ledger_recovering import Recover, recover
from p2pfl.runtime.commands.lost_data import has_gap
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.home import Home


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Three sites, without a node so far."""
    return found(tmp_path_factory.mktemp("losses") / "c", 3)


@pytest.fixture
def made(three: Consortium, tmp_path: Path) -> Consortium:
    return three.copied(tmp_path / "c")


def another_dataset(made: Consortium) -> None:
    table = made.folder / "second.csv"
    lines = (made.folder / "site0.csv").read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line.replace("0.", "1.", 1) for line in lines[1:])]))
    schema = str(made.folder / "schema.toml")
    said = ("--legal-basis", "test", "--dpia", "none", "--epsilon-cap", "8", "--delta", "1e-3")
    p2pfl(made.home(0), "data", "add", str(table), "--name", "more", "--schema", schema, *said)


def truncate(made: Consortium) -> None:
    _change(made, "DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry)")


def corrupt(made: Consortium) -> None:
    _change(made, "UPDATE entry SET raw = x'00' WHERE seq = 2")


def cut_heads(made: Consortium) -> None:
    heads = made.home(0).heads_log
    heads.write_bytes(heads.read_bytes()[:-300])


def _change(made: Consortium, statement: str) -> None:
    with closing(sqlite3.connect(made.home(0).ledger_db)) as database, database:
        database.execute(statement)


@pytest.mark.parametrize("lose", [lose_disk, truncate, corrupt])
def test_a_lost_or_damaged_ledger_comes_back_from_the_mirrors(
    made: Consortium, lose: Callable[[Consortium], None], capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        home, switchboard = made.home(0), Switchboard()
        await mirrored(made, switchboard)
        whole = [entry.raw for entry in entries(home)]
        lose(made)
        capsys.readouterr()
        assert main(["--home", str(home.path), "node", "start"]) in (10, 11, 74)
        assert "p2pfl ledger recover" in capsys.readouterr().err
        async with nodes_of(made, switchboard, 1, 2) as others:
            with pytest.raises(OperatorError, match="came from others"):
                await recovered(home, switchboard, confirmed=False)
            done = await recovered(home, switchboard)
            assert done.asked == ("site1", "site2")
            assert done.taken > 0
            assert [entry.raw for entry in entries(home)][:-1] == whole
            assert [entry.kind for entry in entries(home)][-1] == "log.recovered"
            await healed(made, switchboard, others)

    asyncio.run(scenario())


def test_names_of_approvers_that_no_other_site_has_are_on_record_as_lost(
    made: Consortium,
) -> None:
    async def scenario() -> None:
        home, switchboard = made.home(0), Switchboard()
        study = proposed(made)
        p2pfl(home, "study", "approve", study, "--data", "patients", "--by", "Dr. Example")
        p2pfl(home, "study", "revoke", study)
        p2pfl(home, "study", "approve", study, "--data", "patients", "--by", "Dr. Other")
        first, second = (entry.seq for entry in entries(home, "study.approved"))
        redact = ("ledger", "redact", str(first), "approver", "--basis", "gdpr-17-1-b", "--yes")
        p2pfl(home, *redact)
        await mirrored(made, switchboard)
        lose_disk(made)
        async with nodes_of(made, switchboard, 1, 2):
            done = await recovered(home, switchboard)
        assert done.secrets_lost == 1, "the other had been erased before"
        gone = [entry.body for entry in entries(home, "redacted")][1:]
        assert gone == [{"basis": "lost-with-ledger", "field": "approver", "seq": second}]
        assert audit_code(home) == 0

    asyncio.run(scenario())


def test_a_restored_old_home_is_read_only_and_recovered(made: Consortium) -> None:
    async def scenario() -> None:
        home, switchboard = made.home(0), Switchboard()
        backup = made.folder / "backup"
        shutil.copytree(home.path, backup)
        another_dataset(made)
        await mirrored(made, switchboard)
        whole = [entry.raw for entry in entries(home)]
        shutil.rmtree(home.path)
        shutil.copytree(backup, home.path)
        async with nodes_of(made, switchboard, 1, 2) as others:
            async with nodes_of(made, switchboard, 0, must_ask=True) as (node,):
                await until(lambda: node.driver.core.own_log is OwnLog.READ_ONLY)
                assert "p2pfl ledger recover" in node.driver.core.read_only_reason
            done = await recovered(home, switchboard)
            assert (done.kept, done.datasets_missing) == (len(whole) - done.taken, 1)
            await healed(made, switchboard, others)

    asyncio.run(scenario())


def test_a_whole_ledger_is_not_recovered_and_too_few_answers_are_refused(made: Consortium) -> None:
    async def scenario() -> None:
        switchboard = Switchboard()
        await mirrored(made, switchboard)
        async with nodes_of(made, switchboard, 1, 2):
            with pytest.raises(OperatorError, match="Nothing is missing"):
                await recovered(made.home(0), switchboard)
        dial = dialling(switchboard)
        request = Recover(confirmed=True, wait_s=0.1)
        with pytest.raises(OperatorError, match="Only 0 of the 2"):
            await asyncio.to_thread(recover, made.home(0), request, now_us=now_us, dial=dial)

    asyncio.run(scenario())


def test_entries_of_study_and_own_kinds_never_reach_others_in_plain(made: Consortium) -> None:
    """Nobody takes part in a study here: all but what is for everyone is sealed to its site."""

    async def scenario() -> None:
        await mirrored(made, Switchboard())
        for holder in range(3):
            with closing(WitnessDatabase.open(made.home(holder).path / "witness.db")) as book:
                for owner in set(range(3)) - {holder}:
                    log_id = LogId(made.roster.member(made.site(owner)).log_id)
                    raws = {entry.seq: entry for entry in entries(made.home(owner))}
                    held = list(book.entries(log_id))
                    assert len(held) == len(raws)
                    for item in held:
                        entry = raws[item.seq]
                        is_public = readers_of(entry.kind) is Readers.EVERYONE
                        assert (item.data == entry.raw) is is_public, entry.kind
                        assert is_public or entry.raw not in item.data

    asyncio.run(scenario())


def test_a_site_that_lost_everything_goes_on_in_a_new_log_that_names_the_gap(
    made: Consortium,
) -> None:
    async def scenario() -> None:
        home, switchboard = made.home(0), Switchboard()
        await mirrored(made, switchboard)
        size = len(entries(home))
        lose_disk(made)
        for holder in (1, 2):
            forget_entries(made, holder)
        async with nodes_of(made, switchboard, 1, 2):
            with pytest.raises(Exception, match="are missing"):
                await recovered(home, switchboard)
            done = await incarnated(home, switchboard)
        assert (done.previous_size, done.missing_from) == (size, 0)
        with closing(LogReader.open(home.path)) as reader:
            previous = reader.identity.previous
        assert previous is not None
        assert previous.log_id == done.previous
        sign_next_roster(made)
        async with nodes_of(made, switchboard, 1, 2) as others:
            await healed(made, switchboard, others)

    asyncio.run(scenario())


def test_after_a_lost_disk_other_data_counts_as_exhausted_until_people_decide(
    made: Consortium,
) -> None:
    """The ledger comes back from the mirrors; which patients were in the lost file does not."""

    async def scenario() -> None:
        home, switchboard = made.home(0), Switchboard()
        spend(made, eps_total_u=3_000_000)
        await mirrored(made, switchboard)
        lose_disk(made)
        shutil.rmtree(home.dataset("patients"))
        async with nodes_of(made, switchboard, 1, 2):
            done = await recovered(home, switchboard)
        assert done.datasets_missing == 1

    asyncio.run(scenario())
    # The same file, byte by byte, is that dataset, with what it has spent.
    twin = made.copied(made.folder.parent / "twin")
    again = add_data(twin.home(0), twin.folder / "site0.csv", "patients")
    assert (again["epsilon_spent"], again["ds"]) == (3.0, registered(twin.home(0))[0].hex())
    home, study, other = made.home(0), proposed(made), reordered(made)
    seen = add_data(home, other, "others")
    assert (seen["epsilon_spent"], seen["epsilon_cap"]) == (8.0, 8.0)
    assert any("accept-spending others" in note for note in seen["notes"])
    with pytest.raises(OperatorError, match="is not known: its ε cap counts as exhausted"):
        p2pfl(home, "study", "approve", study, "--data", "others")
    decide = ("data", "accept-spending", "others", "--basis", "lost-disk", "--epsilon", "1.5")
    p2pfl(home, *decide, "--yes")
    p2pfl(home, "study", "approve", study, "--data", "others")
    with pytest.raises(OperatorError, match="60 of 60 patients are registered already"):
        add_data(home, made.folder / "site0.csv", "patients")
    assert audit_code(home) == 0


def test_what_an_earlier_log_lost_is_not_forgotten_by_the_log_after_the_next(
    made: Consortium,
) -> None:
    async def scenario() -> None:
        home, switchboard = made.home(0), Switchboard()
        await mirrored(made, switchboard)
        lose_disk(made)
        shutil.rmtree(home.dataset("patients"))
        for holder in (1, 2):
            forget_entries(made, holder)
        for _ in range(2):  # the second one loses nothing
            async with nodes_of(made, switchboard, 1, 2):
                await incarnated(home, switchboard)
            sign_next_roster(made)

    asyncio.run(scenario())
    home = made.home(0)
    with closing(LogReader.open(home.path)) as reader:
        assert reader.identity.previous is not None
        assert not has_gap(reader.identity)
    seen = add_data(home, made.folder / "site0.csv", "again")
    assert (seen["epsilon_spent"], seen["epsilon_cap"]) == (8.0, 8.0)
    assert audit_code(home) == 0


def spend(made: Consortium, *, eps_total_u: int) -> None:
    """Something was computed from the first site's patients."""
    home = made.home(0)
    terms = kinds.DpTerms("poisson", "1.1", "0.2", 10, "1.0", "1e-3", "rdp", "v1")
    spent = kinds.PrivacySpent(bytes(32), registered(home)[0], "statistics", terms, eps_total_u)
    with closing(Log.open(home.path, log=Signer(made.keys(0).log))) as log:
        log.append([spent.draft("node")], now_us())


def registered(home: Home) -> list[bytes]:
    return [entry.body["ds"] for entry in entries(home, "dataset.registered")]


def proposed(made: Consortium) -> str:
    """A study of the second site that the first one knows."""
    manifest, proposal = made.folder / "study.toml", made.folder / "study.study"
    p2pfl(made.home(1), "study", "new", "--data", "patients", "--out", str(manifest))
    study: str = p2pfl_json(made.home(1), "study", "propose", str(manifest))["study"]
    p2pfl(made.home(0), "study", "import", str(proposal))
    return study[:12]


def reordered(made: Consortium) -> Path:
    """The same patients in another file."""
    table = made.folder / "reordered.csv"
    header, *lines = (made.folder / "site0.csv").read_text().splitlines()
    table.write_text("\n".join([header, *reversed(lines)]) + "\n")
    return table


def add_data(home: Home, table: Path, name: str) -> Any:
    schema = str(home.path.parent / "schema.toml")
    said = ("--legal-basis", "test", "--dpia", "none", "--epsilon-cap", "8", "--delta", "1e-3")
    return p2pfl_json(home, "data", "add", str(table), "--name", name, "--schema", schema, *said)
