"""A researcher's text as this site handles it: which packages are here, and what may be started.

Responsible for the last look before a process gets the text. Never runs, compiles or parses it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path

from ledger.provenance.kinds import CodeApproved
from p2pfl.core.manifest import Manifest
from p2pfl.core.manifest_code import text_digest
from p2pfl.runtime.bundles import bundle_with
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.terms import Limits, Terms, terms_here
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.training_answers import TrainingError

ABSENT = ""
"""The version of a package that is not installed."""


def versions_here(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each package, by the name it is imported with; "" if it is not."""
    return {name: _version(name) for name in sorted(packages)}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pass
    # PIL is imported, pillow is installed: asking all of them takes a moment.
    owners = importlib.metadata.packages_distributions().get(package, [])
    return importlib.metadata.version(sorted(owners)[0]) if owners else ABSENT


def recorded_versions(versions: Mapping[str, str]) -> dict[str, str]:
    """Versions as an entry of the ledger holds them: its keys are lower-case."""
    return {name.lower(): version for name, version in versions.items()}


def check_startable(
    manifest: Manifest, approved: CodeApproved | None, confinement: Terms | None
) -> None:
    """Whether the study's own code may be started here, now. Raises TrainingError.

    approved: what the present approval read of it."""
    code = manifest.foreign
    if code is None:
        return
    if confinement is None:
        raise TrainingError(
            "not-confined",
            "this machine cannot confine the study's code, so it was not started: "
            "`p2pfl doctor` says what is missing",
        )
    # A bundle's bytes are looked at where they are handed over, in `bundle_started`.
    ran = code.sha256 if manifest.code is None else text_digest(manifest.code.text)
    if approved is None or {approved.text, code.sha256} != {ran}:
        raise TrainingError(
            "other-code",
            "the study's code is not what was approved here, so it was not started: revoke the "
            "study, read it with `p2pfl study show` and approve it again",
        )
    changed = versions_changed(code.packages, approved)
    if changed:
        raise TrainingError(
            "other-packages",
            f"{changed}: revoke the study and approve it again, or install what was approved",
        )


def versions_changed(packages: Iterable[str], approved: CodeApproved) -> str:
    """The first package whose version is not the one that was approved, in words; "" for none."""
    now = recorded_versions(versions_here(packages))
    for name in sorted(now.keys() | approved.versions.keys()):
        here, then = now.get(name, ABSENT), approved.versions.get(name, ABSENT)
        if here != then:
            return f"{name} is {here or 'not installed'} here, approved was {then or 'none'}"
    return ""


def bundle_started(home: Home, manifest: Manifest) -> Path | None:
    """The folder of the study's bundle, every byte of it looked at again; None without one.

    Raises TrainingError."""
    if manifest.bundle is None:
        return None
    try:
        return bundle_with(home, manifest.bundle.sha256).folder.resolve()
    except OperatorError as error:
        raise TrainingError("other-code", f"{error.message} {error.fix}") from error


def confinement_for_code(limits: Limits | None = None) -> Terms:
    """What a process with a researcher's code may reach on this machine, before any file of ours.

    Raises OperatorError where this machine cannot confine it: then it must not run."""
    try:
        return terms_here(limits)
    except ConfinementError as error:
        raise OperatorError(
            f"This machine cannot confine code that a researcher wrote: {error}.",
            fix="Nothing of it was run. `p2pfl doctor` says what is missing; docs/confinement.md "
            "says how to get it.",
            exit_code=EXIT_REFUSED,
        ) from error


def require_installed(whose: str, packages: Mapping[str, str]) -> None:
    """Whether the packages that a study needs are here. packages: name → the proposer's version.

    whose: "code" or "bundle". Raises OperatorError."""
    absent = [package for package, version in versions_here(packages).items() if not version]
    if absent:
        raise OperatorError(
            f"The study's {whose} needs {', '.join(absent)}, not installed here.",
            fix=f"Install it where p2pfl is installed (the proposer has {absent[0]} "
            f"{packages[absent[0]]}), then approve the study.",
            exit_code=EXIT_REFUSED,
        )
