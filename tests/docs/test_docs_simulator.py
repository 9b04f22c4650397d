"""The simulator's commands, typed as its pages write them."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from docs_blocks import ROOT

from p2pfl.cli.main import main
from p2pfl.runtime.errors import EXIT_REFUSED

PAGES = ("simulator.md", "non-iid.md")
COMMANDS = sorted(
    {
        command
        for page in PAGES
        for command in re.findall(
            r"^ {4}p2pfl (simulate simulations/.*)$", (ROOT / "docs" / page).read_text(), re.M
        )
    }
)
QUICK = [command for command in COMMANDS if "first.toml" in command]
SLOW = [c for c in COMMANDS if c not in QUICK and "hospitals" not in c]


def typed(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a command in a folder that has the repository's scenarios; returns its results."""
    (folder / "simulations").symlink_to(ROOT / "simulations")
    monkeypatch.chdir(folder)
    words = shlex.split(command)
    assert main(words) == 0
    return folder / words[words.index("--out") + 1]


@pytest.mark.parametrize("command", QUICK)
def test_the_first_command_leaves_tables_and_pictures(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = typed(command, tmp_path, monkeypatch)
    for name in ("summary.json", "sites_by_round.parquet", "rounds.csv", "traffic.csv"):
        assert (results / name).stat().st_size > 0
    assert (results / "rounds.png").read_bytes().startswith(b"\x89PNG")
    first = capsys.readouterr().out
    assert "site-rounds/s" in first
    assert all(len(line) <= 80 for line in first.splitlines() if "Tables" not in line)
    assert main(shlex.split(command)) == 0
    assert "done before" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("command", SLOW)
def test_the_sweeps_come_to_their_end(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = typed(command, tmp_path, monkeypatch)
    assert (results / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_wrong_scenario_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[scenario]\nname = "x"\nroundz = 3\n', encoding="utf-8")
    assert main(["simulate", str(path)]) == 65
    told = capsys.readouterr().err
    assert "rounds" in told
    assert "Traceback" not in told
    assert main(["simulate", str(tmp_path / "nowhere.toml")]) == 66


def test_without_ray_the_engine_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    scenario = ROOT / "simulations" / "scenarios" / "first.toml"
    words = ["simulate", str(scenario), "--engine", "ray", "--out", str(tmp_path / "out")]
    assert main(words) == EXIT_REFUSED
    told = capsys.readouterr().err
    assert "pip install 'p2pfl-node[ray]'" in told
    assert "Traceback" not in told
