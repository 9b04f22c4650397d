"""`study away` and `study back` say no for a reason, and what to do; nothing is recorded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ops_sites import done, p2pfl

from ledger.log import Draft, Entry, LogReader
from ledger.provenance import kinds
from p2pfl.cli.context import now_us
from p2pfl.runtime.commands import catalogue
from p2pfl.runtime.commands.decisions import StudyDecide, study_away, study_back
from p2pfl.runtime.commands.opening import HeldLedger, open_site
from p2pfl.runtime.datasets import local_datasets
from p2pfl.runtime.errors import (
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    OperatorError,
)
from p2pfl.runtime.home import Home
from p2pfl.runtime.ledger_writer import Unless

TWO_YEARS_US = 2 * 366 * 86_400 * 1_000_000


@pytest.fixture
def home(consortium: Path, proposed: str) -> Path:
    """A site that is away from the study."""
    home = consortium / "site1"
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    done("study", "away", proposed, "--reason", "maintenance", "--home", home)
    return home


def _size(home: Path) -> int:
    with closing(LogReader.open(home)) as reader:
        return reader.checkpoint.size


def test_who_never_approved_is_told_how_to_decide(consortium: Path, proposed: str) -> None:
    home = consortium / "site1"
    for words in (("back", proposed), ("away", proposed, "--reason", "maintenance")):
        ran = p2pfl("study", *words, "--home", home)
        said = " ".join(ran.err.split())
        assert (ran.code, "is undecided here" in said) == (EXIT_REFUSED, True)
        assert f"p2pfl study approve {proposed[:12]}" in said
        assert f"p2pfl study refuse {proposed[:12]}" in said


def test_who_is_not_away_cannot_come_back(home: Path, proposed: str) -> None:
    done("study", "back", proposed, "--home", home)
    before = _size(home)
    here = p2pfl("study", "back", proposed, "--home", home)
    assert (here.code, "is already approved here" in here.err) == (EXIT_REFUSED, True)
    assert _size(home) == before
    done("study", "revoke", proposed, "--home", home)
    left = p2pfl("study", "back", proposed, "--home", home)
    assert (left.code, "is already revoked here" in left.err) == (EXIT_REFUSED, True)
    assert f"p2pfl study approve {proposed[:12]}" in " ".join(left.err.split())


def test_nobody_comes_back_with_data_that_are_gone_or_changed(home: Path, proposed: str) -> None:
    [registered] = local_datasets(Home(home))
    table, before = registered.file, _size(home)
    raw = table.read_bytes()
    try:
        table.write_bytes(raw + raw.splitlines()[-1] + b"\n")
        changed = p2pfl("study", "back", proposed, "--home", home)
        table.unlink()
        gone = p2pfl("study", "back", proposed, "--home", home)
    finally:
        table.write_bytes(raw)
    assert (changed.code, "changed since it was registered" in changed.err) == (EXIT_DATA, True)
    assert (gone.code, "is no longer at" in gone.err) == (EXIT_NO_INPUT, True)
    assert "Put it back" in gone.err
    assert _size(home) == before
    done("study", "back", proposed, "--home", home)


def test_nobody_comes_back_to_a_study_that_expired(home: Path, proposed: str) -> None:
    before = _size(home)
    with pytest.raises(OperatorError, match="The study expired at") as refused:
        catalogue.perform(
            Home(home),
            catalogue.STUDY_BACK,
            StudyDecide(proposed, ""),
            now_us=lambda: now_us() + TWO_YEARS_US,
            random_bytes=os.urandom,
        )
    assert refused.value.exit_code == EXIT_REFUSED
    assert "Ask the proposer for a new one" in refused.value.fix
    assert _size(home) == before


def test_a_reason_to_be_away_is_a_code(home: Path, proposed: str) -> None:
    done("study", "back", proposed, "--home", home)
    ran = p2pfl("study", "away", proposed, "--reason", "Mr Smith is ill", "--home", home)
    assert (ran.code, "is not a code" in ran.err) == (EXIT_USAGE, True)
    assert p2pfl("study", "away", proposed, "--home", home).code == EXIT_USAGE


class _Overtaken(HeldLedger):
    """As beside a running node: another command revokes before this one's entry is written."""

    def append_unless(self, drafts: Sequence[Draft], unless: Unless) -> tuple[Entry, ...] | None:
        entry = next(e for e in reversed([*self.entries()]) if e.kind == "study.approved")
        study = entry.body["study"]
        assert isinstance(study, bytes)
        self.append([kinds.StudyRevoked(study, "consent-withdrawn").draft("data-owner")])
        newer = [entry for entry in self.entries() if entry.seq >= unless.since]
        if any(unless.spoils(entry.kind, entry.body) for entry in newer):
            return None
        return self.append(drafts)


def test_who_revokes_at_the_same_moment_wins(home: Path, proposed: str) -> None:
    for word in (study_back, study_away):
        with open_site(Home(home), purpose="a test", now_us=now_us) as site:
            assert isinstance(site.ledger, HeldLedger)
            busy = replace(site, ledger=_Overtaken(site.ledger.log, now_us))
            with pytest.raises(OperatorError, match="decided on, or ended") as refused:
                word(busy, StudyDecide(proposed, "maintenance" if word is study_away else ""))
        assert refused.value.exit_code == EXIT_UNAVAILABLE
        assert "p2pfl study list" in refused.value.fix
        done("study", "approve", proposed, "--data", "patients", "--home", home)
    with closing(LogReader.open(home)) as reader:
        assert [e.kind for e in reader.entries()].count("study.back") == 0
