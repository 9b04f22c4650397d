"""The tamper list on real files: every case is found by name, with its exit code."""

import shutil
from pathlib import Path

import pytest
from prov_cases import CASES, ME, Case
from prov_homes import NAMES, audit_home, build_homes
from prov_stories import codes

from ledger.log import ExitCode, SigCheck
from p2pfl.runtime.commands.ledger_reading import verify_from
from p2pfl.runtime.home import Home


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("honest")
    build_homes(root)
    return root


@pytest.fixture
def homes(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "homes"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_peers", [False, True])
def test_homes_that_nobody_touched_are_clean(honest: Path, name: str, with_peers: bool) -> None:
    peers = [other for other in NAMES if other != name] if with_peers else None
    report = audit_home(honest, name, peers=peers)
    assert report.findings == ()
    assert report.exit_code is ExitCode.CLEAN


def name_of(case: Case) -> str:
    return f"{case.number}-{case.what.replace(' ', '-')}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_tampering_is_found(homes: Path, case: Case) -> None:
    case.tamper(homes)
    report = audit_home(homes, case.whose, peers=case.peers)
    notes = {note.split(":")[0] for check in report.checks for note in check.notes}
    assert case.code in codes(report) or case.code.removeprefix("log.") in notes
    assert report.exit_code is case.exit_code, [(x.code, x.sentence) for x in report.findings]
    for found in report.findings:
        assert found.sentence.endswith("."), found
        assert found.action.endswith("."), found


LOCAL = [case for case in CASES if case.code.startswith("log.") and case.peers is None]


@pytest.mark.parametrize("case", LOCAL, ids=name_of)
def test_verify_alone_finds_what_was_done_to_the_files(homes: Path, case: Case) -> None:
    case.tamper(homes)
    checked = verify_from(Home(homes / ME), SigCheck.ALL, 0)
    assert case.code.removeprefix("log.") in {found.code.value for found in checked.findings}
    assert checked.exit_code is case.exit_code


NEED_PEERS = [case for case in CASES if case.peers is not None]


@pytest.mark.parametrize("case", NEED_PEERS, ids=name_of)
def test_without_the_other_sites_the_same_log_looks_honest(homes: Path, case: Case) -> None:
    case.tamper(homes)
    assert case.code not in codes(audit_home(homes, case.whose))


def test_all_thirty_four_cases_are_tried() -> None:
    assert {case.number for case in CASES} == set(range(1, 35))


def test_the_documented_table_is_this_one() -> None:
    page = (Path(__file__).parents[3] / "docs" / "audit.md").read_text()
    rows = [line for line in page.splitlines() if line[:3].strip("| ").isdigit()]
    assert rows == [row_of(case) for case in CASES]


def row_of(case: Case) -> str:
    given, peers = "keys" if case.keys else "files", "no" if case.peers is None else "yes"
    cells = (case.number, case.what, given, f"`{case.code}`", int(case.exit_code), peers)
    return "| " + " | ".join(map(str, cells)) + " |"
