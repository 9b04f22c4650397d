"""Real nodes witness each other: heads are cosigned, and a restored old home is noticed."""

import shutil
from pathlib import Path

import pytest
from node_homes import Consortium, entries, found, p2pfl, p2pfl_json
from node_lies import proof_against_itself
from node_processes import running, start

from p2pfl.cli.main import main


@pytest.fixture(scope="module")
def witnesses(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return found(tmp_path_factory.mktemp("witnesses") / "c", 3)


def test_heads_are_cosigned_by_a_quorum_and_a_restored_old_home_is_read_only(
    witnesses: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = witnesses.home(0)
    old = tmp_path / "backup"
    with running(witnesses.homes) as nodes:
        for node in nodes:
            node.wait("node_ready")
        nodes[0].until(
            lambda: (
                nodes[0].status()["own_log"] == "confirmed"
                and (home.path / "witness.db").is_file()
                and p2pfl_json(home, "ledger", "status")["quorum_met"]
            ),
            "cosigned by the others",
        )
        nodes[0].stop()
        shutil.copytree(home.path, old)
        nodes[0] = start(home)
        nodes[0].wait("node_ready")
        _another_dataset(witnesses, home.path)
        size = p2pfl_json(home, "ledger", "head")["size"]
        nodes[0].until(
            lambda: (
                p2pfl_json(home, "ledger", "status")["cosigned_size"] == size
                and p2pfl_json(home, "ledger", "status")["quorum_met"]
            ),
            "the new head is cosigned",
        )
        seen = p2pfl_json(home, "ledger", "status")
        assert seen["cosigned_by"] == ["site1", "site2"]
        assert [peer["cosigned_own"] for peer in seen["peers"]] == [size, size]
        assert all(len(line) <= 80 for line in p2pfl(home, "ledger", "status").splitlines())
        nodes[0].stop()
        shutil.rmtree(home.path)
        shutil.copytree(old, home.path)
        nodes[0] = start(home)
        nodes[0].wait("node_ready")
        nodes[0].until(lambda: nodes[0].status()["own_log"] == "read-only", "noticed")
        assert "p2pfl ledger recover" in nodes[0].status()["read_only"]
        capsys.readouterr()
        words = ["data", "revoke", "patients", "--yes"]
        assert main(["--home", str(home.path), *words]) != 0
        nodes[0].stop()
    assert not list(home.path.glob("bugs.log"))
    assert not any(node.said("bug") for node in nodes)


def test_a_file_that_proves_nothing_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "proof").write_bytes(b"nothing")
    assert main(["ledger", "check-fork", str(tmp_path / "proof")]) == 65
    assert "proves no fork" in capsys.readouterr().err


def test_a_site_whose_own_log_is_proved_to_be_forked_freezes_it_and_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = found(tmp_path / "c", 2)
    home = made.home(0)
    proof_against_itself(made)
    for _ in range(2):
        node = start(home)
        alarm = node.wait("own_log_forked")
        assert alarm["level"] == "error"
        status = node.status()
        assert status["own_log"] == "read-only"
        assert "p2pfl ledger new-incarnation" in status["read_only"]
        assert "READ-ONLY" in p2pfl(home, "node", "status")
        node.until(lambda: p2pfl_json(home, "ledger", "status")["frozen"], "frozen")
        node.stop()
    kinds = [entry.kind for entry in entries(home)]
    assert (kinds[-1], kinds.count("fork.found")) == ("fork.found", 1)
    (fork,) = p2pfl_json(home, "ledger", "status")["forks"]
    file = Path(fork["file"])
    assert file.name.startswith("0001-K1-")
    assert (file.stat().st_mode & 0o777, file.parent) == (0o600, home.forks)
    assert "FROZEN" in p2pfl(home, "ledger", "status")
    assert all(
        len(line) <= 80 or "/" in line for line in p2pfl(home, "ledger", "status").split("\n")
    )
    elsewhere = tmp_path / "proof"
    elsewhere.write_bytes(file.read_bytes())
    capsys.readouterr()
    assert main(["--home", str(tmp_path / "none"), "ledger", "check-fork", str(elsewhere)]) == 12
    assert "was shown in two histories" in capsys.readouterr().out


def _another_dataset(made: Consortium, home: Path) -> None:
    table = made.folder / "second.csv"
    lines = (made.folder / "site0.csv").read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line.replace("0.", "1.", 1) for line in lines[1:])]))
    schema = str(made.folder / "schema.toml")
    said = ("--legal-basis", "test", "--dpia", "none", "--epsilon-cap", "8", "--delta", "1e-3")
    p2pfl(made.home(0), "data", "add", str(table), "--name", "more", "--schema", schema, *said)
    assert home.is_dir()
