"""What a site sees alike of a researcher's text and of a bundle before it decides on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from p2pfl.core.errors import ManifestError
from p2pfl.core.history import History
from p2pfl.core.manifest import Manifest
from p2pfl.runtime.commands.study_lookup import read_manifest
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.plan_code import versions_here


@dataclass(frozen=True, slots=True)
class PackageSeen:
    """A third-party package: the proposer's version and the one here, "" where there is none.

    Outside of a study there is no proposer."""

    name: str
    proposed: str
    here: str


def packages_seen(proposed: Mapping[str, str]) -> tuple[PackageSeen, ...]:
    """The proposer's packages beside those here."""
    here = versions_here(proposed)
    return tuple(PackageSeen(name, version, here[name]) for name, version in proposed.items())


def measures_seen(metrics: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """What may be reported, with its range."""
    return tuple(f"{name} ({low:g} to {high:g})" for name, (low, high) in sorted(metrics.items()))


def approved_before(home: Home, history: History, manifest: Manifest) -> Iterator[Manifest]:
    """Other studies whose text or bundle was approved here, the newest approval first."""
    approved = [
        (past.approved_seq, study)
        for study, past in history.studies.items()
        if past.code is not None and study != manifest.study_id
    ]
    for _, study in sorted(approved, reverse=True):
        try:
            yield read_manifest(home, study)
        except (OperatorError, ManifestError):
            continue  # its manifest is gone or was changed: nothing to compare with


def not_approvable(manifest: Manifest, sentence: str, *, reason: str) -> OperatorError:
    """What a study's text or bundle lacks: only its proposer can mend it."""
    refuse = f"`p2pfl study refuse {manifest.study_id.hex()[:12]} --reason {reason}`"
    return OperatorError(
        sentence, fix=f"Record it with {refuse}, and tell the proposer.", exit_code=EXIT_REFUSED
    )
