"""Drafting a study around a researcher's own text: what `study new --from` fills in.

Responsible for the [code] section and for the arguments, ranges and measures that the text itself
declares. The text is run only confined, by `plan_texts`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from gossip.identifiers import Digest
from p2pfl.core.manifest import Manifest, PlanTerms, Scalar
from p2pfl.core.manifest_code import CODE_PLAN, CodeTerms, Gradients, text_digest
from p2pfl.runtime.children import output_of
from p2pfl.runtime.commands.initial_models import keep_initial
from p2pfl.runtime.commands.plan_texts import (
    answer_of,
    confined_folders,
    read_text,
    require_readable,
    try_text,
)
from p2pfl.runtime.commands.study_rendering import rendered
from p2pfl.runtime.confined_child import run_confined
from p2pfl.runtime.errors import EXIT_DATA, EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.plan_code import versions_here
from p2pfl.runtime.policy import allowance_of

INITIAL_S: Final = 180.0
STEERED_BY: Final = 4.0
"""How far an argument that may be steered may go from its value, either way."""


def with_text(home: Home, draft: Manifest, path: Path, gradients: str) -> Manifest:
    """The draft with the text, and with what the text says of itself.

    gradients: "outside" or "inside"; not used where no single patient's gradient is clipped.
    Raises OperatorError with the line of a mistake."""
    text = read_text(path)
    report = require_readable(text)
    versions = versions_here(report.packages)
    absent = [name for name, version in versions.items() if not version]
    if absent:
        line = next(one.line for one in report.imports if one.name.split(".")[0] == absent[0])
        raise OperatorError(
            f"{path.name} line {line} imports {absent[0]}, which is not installed here.",
            fix="Install it where p2pfl is installed, at every site, or do without it.",
            exit_code=EXIT_UNAVAILABLE,
        )
    chosen = cast(Gradients, gradients if draft.privacy.clips_patients else "")
    code = CodeTerms(text, text_digest(text), versions, chosen)
    given = PlanTerms(CODE_PLAN, draft.plan.arguments, {})
    tried = try_text(home, rendered(replace(draft, code=code, plan=given)))
    start = draft.material("start")
    if start is not None and start.parameters != tried.parameters:
        raise OperatorError(
            f"The released model has {start.parameters} parameters, the plan's {tried.parameters}.",
            fix="The plan's model needs the same tensors in the same order as the released one.",
            exit_code=EXIT_DATA,
        )
    arguments = {**tried.arguments, **draft.plan.arguments}
    ranges = dict(draft.plan.ranges) | {
        name: around
        for name in sorted(tried.steerable)
        if (around := _around(arguments[name])) is not None
    }
    return replace(
        draft,
        code=replace(code, metrics=tried.measures),
        plan=PlanTerms(CODE_PLAN, arguments, ranges),
    )


def _around(value: Scalar) -> tuple[float, float] | None:
    if isinstance(value, bool | str) or value <= 0:
        return None
    low, high = value / STEERED_BY, value * STEERED_BY
    return (max(1.0, round(low)), float(round(high))) if isinstance(value, int) else (low, high)


def make_coded_model(home: Home, manifest: Manifest) -> tuple[Digest, int]:
    """The initial model of a study with a text of its own: its digest and length.

    Made confined and read as if a stranger had written it. Raises OperatorError."""
    purpose = "Making the initial model"
    with confined_folders(manifest) as (given, work):
        out = work / "model"
        finished = run_confined(
            "p2pfl.learning.initial",
            ("--manifest", str(given / "study.toml"), "--out", str(out)),
            read=(given,),
            work=work,
            deadline_s=INITIAL_S,
            purpose=purpose,
            allowance=allowance_of(home),
        )
        parameters = answer_of(output_of(finished, purpose), purpose).get("parameters")
        if type(parameters) is not int or not 1 <= parameters <= 500_000_000:
            raise OperatorError(
                f"{purpose} gave no number of parameters.",
                fix="Leave out what the plan writes to standard output.",
                exit_code=EXIT_DATA,
            )
        digest = keep_initial(home, out, parameters, "plan")
    return digest, parameters
