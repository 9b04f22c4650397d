"""A level is what a confined process found out by trying, not what was configured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2pfl.runtime.confinement import probing, terms
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.probing import probed
from p2pfl.runtime.confinement.terms import Level, Terms, level_here, terms_here


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


def test_a_machine_with_both_layers_is_at_level_c(outside: Path) -> None:
    needed()
    found = probed(outside)
    assert (found.level, found.reason) == (Level.C, "")
    assert level_here() is Level.C


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
    assert level_here() is Level.D


def test_a_process_that_does_not_start_is_no_confinement(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(needed(), filter=b"")
    monkeypatch.setattr(probing, "terms_here", lambda: broken)
    assert probed(outside).level is Level.D
