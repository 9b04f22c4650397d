"""The command line itself: fast, and every way to fail ends in a sentence."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from ops_sites import p2pfl

from p2pfl.cli import main as entry
from p2pfl.runtime.errors import EXIT_BUG, EXIT_NO_INPUT, EXIT_USAGE

HEAVY = ("torch", "libp2p", "numpy", "rich", "aiohttp", "nacl", "pandas")


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from p2pfl.cli.main import main; main(['--help']); "
        f"sys.exit([name for name in {HEAVY!r} if name in sys.modules] or None)"
    )
    used_s = []
    for _ in range(3):
        before_s = _children_s()
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        used_s.append(_children_s() - before_s)
        assert ended.returncode == 0, ended.stderr
        assert "study" in ended.stdout
    assert min(used_s) <= 0.3


def _children_s() -> float:
    """Processor seconds of ended children: what a command costs, whatever else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_every_listed_family_exists_and_explains_itself() -> None:
    for family in entry.FAMILIES:
        ran = p2pfl(family, "--help")
        assert ran.code == 0, f"{family}: {ran.err}"
        assert "Usage: p2pfl" in ran.out


@pytest.mark.parametrize("words", [("studie",), ("study", "aprove"), ("version", "--jsn")])
def test_mistyped_commands_end_with_a_usage_error(words: tuple[str, ...]) -> None:
    ran = p2pfl(*words)
    assert ran.code == EXIT_USAGE
    assert "Error: No such" in ran.err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("p2pfl led", ["ledger"]),
        ("p2pfl ledger export ", ["proofs", "tiles", "prov", "rocrate", "csv"]),
        ("p2pfl --home x study dry-run --da", ["--data"]),
    ],
)
def test_the_shell_completes_commands_and_options(typed: str, offered: list[str]) -> None:
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(len(f"{typed}.".split()) - 1)}
    ended = subprocess.run(
        [Path(sys.executable).parent / "p2pfl"],
        env={**os.environ, **asked, "_P2PFL_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
    )
    assert ended.stdout.split() == offered


def test_whatever_writes_a_file_or_folder_takes_it_after_the_same_letter() -> None:
    root = typer.main.get_command(entry.app)
    context = click.Context(root)
    written = {
        f"{path} {'/'.join(option.opts)}"
        for path, command in commands_below(root, context)
        for option in command.params
        if "--out" in option.opts and "-o" not in option.opts
    }
    assert written == set()


def commands_below(
    command: click.Command, context: click.Context, path: str = "p2pfl"
) -> Iterator[tuple[str, click.Command]]:
    """Every command that can be typed, and how."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (below := command.get_command(context, name)) is not None:
                yield from commands_below(below, context, f"{path} {name}")


def test_no_home_is_said_with_what_to_do(tmp_path: Path) -> None:
    ran = p2pfl("study", "list", "--home", tmp_path / "nowhere")
    assert ran.code == EXIT_NO_INPUT
    assert f"There is no home at {tmp_path / 'nowhere'}." in ran.err
    assert "→ Create one with" in ran.err


def test_home_may_stand_before_or_after_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (
        ("--home", tmp_path, "study", "list"),
        ("study", "--home", tmp_path, "list"),
        ("study", "list", f"--home={tmp_path}"),
    ):
        assert f"no home at {tmp_path}: the directory" in p2pfl(*words).err
    monkeypatch.setenv("P2PFL_HOME", str(tmp_path / "variable"))
    assert f"no home at {tmp_path / 'variable'}." in p2pfl("study", "list").err


def test_errors_are_json_for_programs(tmp_path: Path) -> None:
    ran = p2pfl("study", "list", "--home", tmp_path, "--json")
    error = json.loads(ran.err)["error"]
    assert error["exit_code"] == ran.code == EXIT_NO_INPUT
    assert error["fix"]


def test_our_own_bug_is_called_one_and_logged_without_a_traceback_on_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2pfl.cli import version

    def broken(_fields: object) -> None:
        raise ZeroDivisionError("a bug")

    (tmp_path / "logs").mkdir()
    monkeypatch.setattr(version, "say_fields", broken)
    monkeypatch.setenv("P2PFL_HOME", str(tmp_path))
    ran = p2pfl("version")
    assert ran.code == EXIT_BUG
    assert "This is our bug" in ran.err
    assert "Traceback" not in ran.err
    assert "ZeroDivisionError: a bug" in (tmp_path / "logs" / "cli.log").read_text()


def test_version_names_what_the_numbers_depend_on() -> None:
    assert {"python", "p2pfl-node", "torch", "libp2p"} <= set(p2pfl("version", "--json").json)
    assert "torch" in p2pfl("version").out


def test_installed_script_runs(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "p2pfl.cli.main", "--home", str(tmp_path), "data", "list"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == EXIT_NO_INPUT
    assert "Traceback" not in ended.stderr
