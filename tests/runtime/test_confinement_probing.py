"""A level is what a confined process found out by trying, not what was configured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.runtime.confinement import bubblewrap, probing, terms
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.probing import probed
from p2pfl.runtime.confinement.terms import Level, Terms, python_paths, terms_here


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text("units = []\n")
    return path


def needed() -> Terms:
    try:
        return terms_here()
    except ConfinementError as error:
        pytest.skip(f"this machine cannot confine: {error}")


def test_a_machine_has_the_level_of_what_works_on_it(outside: Path) -> None:
    terms = needed()
    found = probed(outside)
    if terms.bubblewrap is not None:
        assert (found.level, found.reason) == (Level.B, "")
    else:
        assert found.level is Level.C
        assert "bubblewrap" in found.reason


def test_a_machine_without_bubblewrap_is_at_level_c(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed()
    monkeypatch.setattr(bubblewrap, "FOLDERS", "/nowhere")
    found = probed(outside)
    assert (found.level, found.reason) == (Level.C, "bubblewrap is not installed")
    assert not found.is_below_what_is_installed


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        # As AppArmor or a container have it.
        (
            "echo bwrap: setting up uid map: Permission denied >&2; exit 1",
            "bubblewrap does not work here: bwrap: setting up uid map: Permission denied",
        ),
        # One that starts what it is given, and nothing else: two levels are tried.
        (
            'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
            "with bubblewrap, a confined process shared its node's ipc",
        ),
    ],
    ids=["refused", "pretends"],
)
def test_a_bubblewrap_that_does_not_work_is_no_level_b_and_the_reason_is_told(
    outside: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    needed()
    bwrap = outside.parent / "bwrap"
    bwrap.write_text(f"#!/bin/sh\n{script}\n")
    bwrap.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "FOLDERS", str(outside.parent))
    found = probed(outside)
    assert found.level is Level.C
    assert found.reason.startswith(reason)
    assert found.is_below_what_is_installed


def test_a_file_that_can_be_read_after_all_is_found(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody starts the node with a home inside its own library path."""
    open_terms = needed().with_paths((outside.parent,), ())
    monkeypatch.setattr(probing, "terms_here", lambda: open_terms)
    found = probed(outside)
    assert (found.level, found.terms) == (Level.D, None)
    assert found.reason == "a confined process read a file outside, listed a folder outside"


def test_a_filter_that_lets_everything_pass_is_found(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_pass = (0x7FFF_0000).to_bytes(4, "little")
    everything = b"\x06\x00\x00\x00" + let_pass
    weak = replace(needed(), filter=everything)
    monkeypatch.setattr(probing, "terms_here", lambda: weak)
    found = probed(outside)
    assert found.level is Level.D
    assert "opened a socket" in found.reason
    assert "left its session" in found.reason or "started a process" in found.reason


def test_a_machine_without_a_layer_is_at_level_d_and_says_what_is_missing(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms.landlock, "abi", lambda: 0)
    found = probed(outside)
    assert found.level is Level.D
    assert "no Landlock" in found.reason


def test_a_process_that_does_not_start_is_no_confinement(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(needed(), filter=b"")
    monkeypatch.setattr(probing, "terms_here", lambda: broken)
    assert probed(outside).level is Level.D


def test_of_a_checkout_packages_alone_can_be_read() -> None:
    """`make demo` keeps its homes in a folder of the checkout."""
    assert Path(__file__).parents[2] / "p2pfl" in python_paths()
    assert not [path for path in python_paths() if (path / "pyproject.toml").exists()]
