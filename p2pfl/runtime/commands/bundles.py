"""A site's bundles as people see them, alone and in a study, and what an approval asks of them.

Responsible for the report on a bundle and for what changed since one was approved here. Nothing of
a bundle is run for it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from p2pfl.core.history import History
from p2pfl.core.manifest import Manifest
from p2pfl.core.manifest_bundle import BundleTerms
from p2pfl.runtime import bundles
from p2pfl.runtime.bundles import Bundle
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.commands.foreign_seen import (
    PackageSeen,
    approved_before,
    measures_seen,
    not_approvable,
    packages_seen,
)
from p2pfl.runtime.commands.plan_texts import Call
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import from_json
from p2pfl.runtime.plan_code import confinement_for_code, require_installed, versions_here

READ_S: Final = 60.0
DIFF_LINES_MAX: Final = 2000


@dataclass(frozen=True, slots=True)
class Target:
    """Something that a configuration has called."""

    file: str
    name: str


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that is evaluated as the configuration is read."""

    file: str
    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Script:
    """A Python file of a bundle. problem: why it is no Python, or nothing."""

    file: str
    problem: str
    imports: tuple[str, ...]
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What reading a bundle finds."""

    problem: str
    targets: tuple[Target, ...]
    expressions: tuple[Expression, ...]
    scripts: tuple[Script, ...]
    packages: tuple[str, ...]
    license: str
    left_out: int


@dataclass(frozen=True, slots=True)
class BundleSeen:
    """A bundle, alone or as a study's.

    is_installed: whether this site has it; then files (path and SHA-256) and report are there.
    compared_with: the study whose bundle was approved here last, "" if none, None if nobody
    looked; diff: what changed since, as lines."""

    name: str
    sha256: bytes
    is_installed: bool
    folder: str
    files: tuple[tuple[str, bytes], ...]
    report: BundleReport | None
    packages: tuple[PackageSeen, ...]
    measures: tuple[str, ...] = ()
    compared_with: str | None = None
    diff: tuple[str, ...] = ()


def report_of_bundle(bundle: Bundle) -> BundleReport:
    """Read a bundle in a child, without running it. Raises OperatorError."""
    purpose = "Reading the bundle"
    request = {"folder": str(bundle.folder), "files": sorted(bundle.files)}
    finished = run_module(
        "p2pfl.learning.bundles.report",
        (),
        given=json.dumps(request).encode(),
        deadline_s=READ_S,
        purpose=purpose,
    )
    if finished.code < 0:  # a parser itself can be ended by what it reads
        return BundleReport("a file is nested too deeply", (), (), (), (), "", 0)
    return from_json(BundleReport, json.loads(output_of(finished, purpose)))


def bundle_alone(bundle: Bundle) -> BundleSeen:
    """What there is to see of an installed bundle. Raises OperatorError."""
    report = report_of_bundle(bundle)
    here = versions_here(report.packages)
    return BundleSeen(
        name=bundle.name,
        sha256=bundle.digest,
        is_installed=True,
        folder=str(bundle.folder),
        files=tuple(sorted(bundle.files.items())),
        report=report,
        packages=tuple(PackageSeen(name, "", version) for name, version in here.items()),
    )


def bundle_seen(
    home: Home | None, history: History | None, manifest: Manifest
) -> BundleSeen | None:
    """What there is to see of a study's bundle; None for other studies. Raises OperatorError."""
    terms = manifest.bundle
    if terms is None:
        return None
    packages, measures = packages_seen(terms.packages), measures_seen(terms.metrics)
    if home is None or not bundles.is_installed(home, terms.sha256):
        return BundleSeen(terms.name, terms.sha256, False, "", (), None, packages, measures)
    bundle = bundles.bundle_with(home, terms.sha256)
    before = None if history is None else _approved_before(home, history, manifest)
    return BundleSeen(
        name=terms.name,
        sha256=terms.sha256,
        is_installed=True,
        folder=str(bundle.folder),
        files=tuple(sorted(bundle.files.items())),
        report=report_of_bundle(bundle),
        packages=packages,
        measures=measures,
        compared_with=None if history is None else "" if before is None else before[0],
        diff=() if before is None else tuple(_diff(home, before[1], bundle)),
    )


def _approved_before(
    home: Home, history: History, manifest: Manifest
) -> tuple[str, BundleTerms] | None:
    """The newest other approval of a bundle here: its study's name and what it named."""
    for other in approved_before(home, history, manifest):
        if other.bundle is not None:
            return other.study.name, other.bundle
    return None


def _diff(home: Home, before: BundleTerms, now: Bundle) -> Iterator[str]:
    """Lines that tell what changed, file by file."""
    if before.sha256 == now.digest:
        return
    try:
        old = bundles.bundle_with(home, before.sha256)
    except OperatorError:
        yield f"the bundle that was approved, {before.sha256.hex()[:12]}, is not here any more"
        return
    lines = 0
    for path in sorted(old.files.keys() | now.files.keys()):
        if old.files.get(path) == now.files.get(path):
            continue
        was, now_is = (
            (bundles.text_of(one, path) or "").splitlines() if path in one.files else []
            for one in (old, now)
        )
        told = (f"approved here: {path}", f"this study: {path}")
        for line in difflib.unified_diff(was, now_is, *told, lineterm=""):
            if lines == DIFF_LINES_MAX:
                yield f"more than {DIFF_LINES_MAX} lines: compare {old.folder} and {now.folder}"
                return
            lines += 1
            yield line
        if was == now_is:
            yield f"{path} differs, and is no text"


def require_approvable_bundle(home: Home, manifest: Manifest) -> None:
    """Whether a study's bundle could run here at all. Raises OperatorError."""
    terms = manifest.bundle
    if terms is None:
        return
    confinement_for_code()
    if not bundles.is_installed(home, terms.sha256):
        raise OperatorError(
            f'The study runs the bundle "{terms.name}" ({terms.sha256.hex()[:12]}), which is not '
            "installed here.",
            fix="Bundles never come from other sites: get its folder as its author publishes it, "
            "read it, and add it with `p2pfl bundle add FOLDER`. Only the very same bytes count.",
            exit_code=EXIT_REFUSED,
        )
    report = report_of_bundle(bundles.bundle_with(home, terms.sha256))
    if report.problem:
        sentence = f"The study's bundle cannot be read: {report.problem}."
        raise not_approvable(manifest, sentence, reason="bundle")
    unnamed = [package for package in report.packages if package not in terms.packages]
    if unnamed:
        sentence = f"The study's bundle uses {unnamed[0]}, which [bundle] packages does not name."
        raise not_approvable(manifest, sentence, reason="bundle")
    require_installed("bundle", terms.packages)
