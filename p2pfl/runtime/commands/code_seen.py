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
from p2pfl.core.history import History
from p2pfl.core.manifest import Manifest
from p2pfl.core.manifest_code import CodeTerms, Gradients
from p2pfl.runtime.commands.foreign_seen import (
    PackageSeen,
    approved_before,
    measures_seen,
    not_approvable,
    packages_seen,
)
from p2pfl.runtime.commands.plan_texts import CodeReport, report_of
from p2pfl.runtime.confinement.probing import standing_here
from p2pfl.runtime.home import Home
from p2pfl.runtime.plan_code import (
    confinement_for_code,
    recorded_versions,
    require_installed,
    versions_here,
)

KEPT_BY: Final[dict[Gradients, str]] = {"": "node", "outside": "node", "inside": "code"}


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
    before, is_known = None, home is not None and history is not None
    if home is not None and history is not None:
        before = _approved_before(home, history, manifest)
    return CodeSeen(
        sha256=code.sha256,
        text=code.text,
        kept_by=kept_by(manifest),
        report=report_of(code.text),
        packages=packages_seen(code.packages),
        measures=measures_seen(code.metrics),
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
    others = [(other, other.code) for other in approved_before(home, history, manifest)]
    texts = [(other, code) for other, code in others if code is not None]
    of_same_name = [found for found in texts if found[0].study.name == manifest.study.name]
    return next(iter(of_same_name or texts), None)


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
    if report.problem:
        sentence = f"The study's code is no Python: plan.py {report.problem}."
        raise not_approvable(manifest, sentence, reason="code")
    unnamed = [package for package in report.packages if package not in code.packages]
    if unnamed:
        sentence = f"The study's code imports {unnamed[0]}, which [code] packages does not name."
        raise not_approvable(manifest, sentence, reason="code")
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
