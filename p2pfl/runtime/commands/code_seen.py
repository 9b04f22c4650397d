"""What a site sees of a researcher's text before it decides, and what its approval records.

Responsible for showing the whole text beside what was approved here before, what reading finds in
it, and which packages it would meet here. Nothing of the text is run for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ledger.log import Draft
from ledger.provenance import kinds
from p2pfl.core.errors import ManifestError
from p2pfl.core.history import History
from p2pfl.core.manifest import Manifest, StudyId
from p2pfl.core.manifest_code import CodeTerms, Gradients
from p2pfl.runtime.commands.plan_texts import CodeReport, report_of
from p2pfl.runtime.commands.study_lookup import read_manifest
from p2pfl.runtime.confinement.probing import standing_here
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.plan_code import (
    confinement_for_code,
    recorded_versions,
    require_installed,
    versions_here,
)

KEPT_BY: Final[dict[Gradients, str]] = {"": "node", "outside": "node", "inside": "code"}


@dataclass(frozen=True, slots=True)
class PackageSeen:
    """A third-party package: the proposer's version and the one here, "" where there is none."""

    name: str
    proposed: str
    here: str


@dataclass(frozen=True, slots=True)
class CodeSeen:
    """A researcher's text as `study show` tells of it.

    kept_by: who keeps the privacy terms: node, code, or nobody. compared_with: the study whose
    text was approved here last, "" if none was, None if nobody looked; diff: what changed since,
    as lines of a diff."""

    sha256: bytes
    text: str
    kept_by: str
    report: CodeReport
    packages: tuple[PackageSeen, ...]
    measures: tuple[str, ...]
    compared_with: str | None
    diff: tuple[str, ...]


def code_seen(home: Home | None, history: History | None, manifest: Manifest) -> CodeSeen | None:
    """What there is to see of a study's own text; None for shipped plans. Raises OperatorError."""
    code = manifest.code
    if code is None:
        return None
    here, measures = versions_here(code.packages), sorted(code.metrics.items())
    before, is_known = None, home is not None and history is not None
    if home is not None and history is not None:
        before = _approved_before(home, history, manifest)
    return CodeSeen(
        sha256=code.sha256,
        text=code.text,
        kept_by=kept_by(manifest),
        report=report_of(code.text),
        packages=tuple(
            PackageSeen(name, proposed, here[name]) for name, proposed in code.packages.items()
        ),
        measures=tuple(f"{name} ({low:g} to {high:g})" for name, (low, high) in measures),
        compared_with=before[0].study.name if before else "" if is_known else None,
        diff=() if before is None else _diff(before[1], code),
    )


def kept_by(manifest: Manifest) -> str:
    """Who keeps the study's privacy terms: the node, the approved code, or nobody."""
    assert manifest.foreign is not None, "asked of studies with code of their own"
    return KEPT_BY[manifest.foreign.gradients] if manifest.privacy.is_private else "nobody"


def _approved_before(
    home: Home, history: History, manifest: Manifest
) -> tuple[Manifest, CodeTerms] | None:
    """The newest other approval of a text here: of a study of the same name, if there is one."""
    approved = [
        (past.approved_seq, study)
        for study, past in history.studies.items()
        if past.code is not None and study != manifest.study_id
    ]
    others = [other for _, study in sorted(approved, reverse=True) if (other := _kept(home, study))]
    of_same_name = [other for other in others if other.study.name == manifest.study.name]
    for other in (*of_same_name, *others):
        if other.code is not None:
            return other, other.code
    return None


def _kept(home: Home, study: StudyId) -> Manifest | None:
    try:
        return read_manifest(home, study)
    except (OperatorError, ManifestError):
        return None  # its manifest is gone or was changed: nothing to compare with


def _diff(before: CodeTerms, now: CodeTerms) -> tuple[str, ...]:
    lines = difflib.unified_diff(
        before.text.splitlines(), now.text.splitlines(), "approved here", "this study", lineterm=""
    )
    return tuple(lines)


def require_approvable(manifest: Manifest) -> None:
    """Whether a study's own text could run here at all. Raises OperatorError."""
    code = manifest.code
    if code is None:
        return
    confinement_for_code()
    report = report_of(code.text)
    name = manifest.study_id.hex()[:12]
    refuse = f"Record it with `p2pfl study refuse {name} --reason code`, and tell the proposer."
    if report.problem:
        raise OperatorError(
            f"The study's code is no Python: plan.py {report.problem}.",
            fix=refuse,
            exit_code=EXIT_REFUSED,
        )
    unnamed = [package for package in report.packages if package not in code.packages]
    if unnamed:
        raise OperatorError(
            f"The study's code imports {unnamed[0]}, which [code] packages does not name.",
            fix=refuse,
            exit_code=EXIT_REFUSED,
        )
    require_installed("code", code.packages)


def code_drafts(manifest: Manifest) -> Iterator[Draft]:
    """What goes on record with an approval: the code's hash, and the packages as they are here.

    Of a bundle, its digest."""
    code = manifest.foreign
    if code is None:
        return
    versions = recorded_versions(versions_here(code.packages))
    level = standing_here().level.value
    approved = kinds.CodeApproved(
        manifest.study_id, code.sha256, kept_by(manifest), level, versions
    )
    yield approved.draft("node")
