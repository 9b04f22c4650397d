"""`p2pfl study new`: a manifest from a few words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from p2pfl.cli.context import (
    JsonOption,
    as_typed,
    now_us,
    opened_home,
    say,
    say_json,
    say_wrapped,
)

if TYPE_CHECKING:
    from p2pfl.core.encoding import Encoding
    from p2pfl.core.manifest import Scalar
    from p2pfl.core.manifest_terms import Kept, Unit
    from p2pfl.runtime.commands.study_drafting import StudyDrafted
    from p2pfl.runtime.commands.study_request import Clipped


def new(
    context: typer.Context,
    data: Annotated[str, typer.Option(help="A dataset of this site, registered with --schema.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The manifest to write.")],
    name: Annotated[str, typer.Option(help="Name of the study: a-z, 0-9, -.")] = "study",
    schema: Annotated[
        Path | None,
        typer.Option(help="TOML with [data] [default: the dataset's].", show_default=False),
    ] = None,
    plan: Annotated[str, typer.Option(help="See `p2pfl study plans`.")] = "tabular-logistic",
    text: Annotated[
        Path | None,
        typer.Option("--from", help="A plan of your own, a Python file.", show_default=False),
    ] = None,
    gradients: Annotated[
        str, typer.Option(help="With --from, clipped outside or inside your code.")
    ] = "outside",
    bundle: Annotated[
        str, typer.Option(help="A bundle from `p2pfl bundle list`.", show_default=False)
    ] = "",
    argument: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the plan, repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds with training.")] = 30,
    consensus_rounds: Annotated[int, typer.Option(help="Rounds without, at the end.")] = 3,
    privacy: Annotated[str, typer.Option(help="gaussian or none.")] = "gaussian",
    epsilon: Annotated[float, typer.Option(help="ε over the whole study.")] = 3.0,
    delta: Annotated[
        str,
        typer.Option(
            help="δ [default: the dataset's].",
            show_default=False,
        ),
    ] = "",
    clip_norm: Annotated[float, typer.Option(help="Largest norm of one contribution.")] = 2.0,
    unit: Annotated[str, typer.Option(help="patient, record, or site: whole updates.")] = "patient",
    sampling_rate: Annotated[
        float,
        typer.Option(help="Share of patients per step [default: chosen].", show_default=False),
    ] = 0.0,
    steps_per_round: Annotated[
        int,
        typer.Option(help="Private steps [default: chosen].", show_default=False),
    ] = 0,
    rule: Annotated[str, typer.Option(help="Averaging rule.")] = "gm_clip",
    rule_parameter: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the rule, repeatable.")
    ] = None,
    topology: Annotated[str, typer.Option(help="Who averages with whom.")] = "complete",
    degree: Annotated[int, typer.Option(help="Neighbours, for random-regular.")] = 0,
    redraw_rounds: Annotated[
        int,
        typer.Option(help="Rounds of one drawing [default: never anew].", show_default=False),
    ] = 0,
    guard: Annotated[str, typer.Option(help="none, or holdout: refuse harmful steps.")] = "none",
    encoding: Annotated[str, typer.Option(help="float32, bf16 or int8 updates.")] = "float32",
    staleness: Annotated[int, typer.Option(help="Rounds an update may be old.")] = 0,
    weighting: Annotated[str, typer.Option(help="patients or uniform.")] = "patients",
    share_max: Annotated[float, typer.Option(help="Largest weight share of a site.")] = 0.5,
    byzantine: Annotated[float, typer.Option(help="Weight share that may lie.")] = 0.2,
    sites_min: Annotated[
        int,
        typer.Option(help="Approvals to start [default: all].", show_default=False),
    ] = 0,
    neighbours_min: Annotated[
        int, typer.Option(help="Neighbours a round needs [default: 2].", show_default=False)
    ] = 0,
    round_deadline: Annotated[
        float,
        typer.Option(
            help="Longest wait for neighbours, s [default: by the model's size].",
            show_default=False,
        ),
    ] = 0.0,
    patience: Annotated[
        int, typer.Option(help="Rounds without gain on the hold-out to stop training [0: never].")
    ] = 0,
    work_limit: Annotated[
        float, typer.Option(help="Longest local work of a round, s [0: all its steps].")
    ] = 0.0,
    keep: Annotated[str, typer.Option(help="last, or best on the own hold-out.")] = "last",
    expires_days: Annotated[int, typer.Option(help="Days until the study ends anyway.")] = 365,
    seed: Annotated[int, typer.Option(help="Of everything that is not noise.")] = 1,
    patients_min: Annotated[
        int, typer.Option(help="Patients a site needs [default: schema].", show_default=False)
    ] = 0,
    holdout: Annotated[
        float,
        typer.Option(
            help="Share held out [default: schema].",
            show_default=False,
        ),
    ] = 0.0,
    go_on_from: Annotated[
        str,
        typer.Option(
            "--continue", help="Study whose released model is trained further.", show_default=False
        ),
    ] = "",
    evaluate: Annotated[
        str,
        typer.Option(help="Study whose released model is tried.", show_default=False),
    ] = "",
    part: Annotated[str, typer.Option(help="With --evaluate: holdout or all.")] = "holdout",
    standardise: Annotated[
        str,
        typer.Option(help="Study whose statistics scale the columns.", show_default=False),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Write a complete manifest from a few words.

    Sites, noise and the initial model are filled in, and said."""
    from p2pfl.cli.progress import working
    from p2pfl.core.encoding import ENCODINGS
    from p2pfl.runtime.commands import study_drafting, study_request
    from p2pfl.runtime.commands.opening import read_history

    _check_names(rule, topology)
    request = study_request.StudyNew(
        out=out.absolute(),
        data=data,
        name=name,
        schema=schema.absolute() if schema else None,
        plan=_plan(plan, text, bundle),
        text=text.absolute() if text else None,
        gradients=cast("Clipped", _one_of("--gradients", gradients, "outside inside")),
        bundle=bundle,
        arguments=_pairs("--argument", argument),
        rounds=rounds,
        consensus_rounds=consensus_rounds,
        privacy=cast(Literal["gaussian", "none"], _one_of("--privacy", privacy, "gaussian none")),
        epsilon=epsilon,
        delta=delta,
        clip_norm=clip_norm,
        unit=cast("Unit", _one_of("--unit", unit, "patient record site")),
        sampling_rate=sampling_rate,
        steps_per_round=steps_per_round,
        rule=rule,
        topology=topology,
        degree=degree,
        weighting=cast(
            Literal["patients", "uniform"], _one_of("--weighting", weighting, "patients uniform")
        ),
        share_max=share_max,
        redraw_rounds=redraw_rounds,
        guard=cast(Literal["none", "holdout"], _one_of("--guard", guard, "none holdout")),
        encoding=cast("Encoding", _one_of("--encoding", encoding, " ".join(ENCODINGS))),
        staleness=staleness,
        byzantine=byzantine,
        rule_parameters=_pairs("--rule-parameter", rule_parameter),
        sites_min=sites_min,
        neighbours_min=neighbours_min,
        round_deadline_s=round_deadline,
        patience=patience,
        work_limit_s=work_limit,
        keep=cast("Kept", _one_of("--keep", keep, "last best")),
        expires_days=expires_days,
        seed=seed,
        patients_min=patients_min,
        holdout=holdout,
        go_on_from=go_on_from,
        evaluate=evaluate,
        part=cast(Literal["holdout", "all"], _one_of("--part", part, "holdout all")),
        standardise=standardise,
    )
    home = opened_home(context)
    now_s = now_us() // 1_000_000
    with working("Choosing the noise, making the initial model …"):
        drafted = study_drafting.study_new(home, read_history(home), request, now_s=now_s)
    say_json(drafted) if json else _tell(drafted)


def _tell(drafted: StudyDrafted) -> None:
    say(f"{as_typed(drafted.file)} is written; its id:")
    say(drafted.study.hex())
    for choice in drafted.choices:
        say_wrapped(f"{choice}.")
    say(f"The initial model has {drafted.parameters} parameters and is kept here.")
    say(f"Next: p2pfl study validate {as_typed(drafted.file)}")


def _check_names(rule: str, topology: str) -> None:
    from p2pfl.core.manifest import RULES, TOPOLOGIES

    _one_of("--rule", rule, " ".join(RULES))
    _one_of("--topology", topology, " ".join(TOPOLOGIES))


def _plan(plan: str, text: Path | None, bundle: str) -> str:
    from p2pfl.core.manifest_bundle import BUNDLE_PLAN
    from p2pfl.core.manifest_code import CODE_PLAN
    from p2pfl.runtime.policy import PLANS

    if bundle and text is not None:
        raise typer.BadParameter("cannot go with --from", param_hint="--bundle")
    if bundle or text is not None:
        return BUNDLE_PLAN if bundle else CODE_PLAN
    return _one_of("--plan", plan, " ".join(PLANS))


def _one_of(option: str, value: str, choices: str) -> str:
    if value not in choices.split():
        listed = " or ".join(choices.split())
        raise typer.BadParameter(f'is "{value}", expected {listed}', param_hint=option)
    return value


def _pairs(option: str, given: list[str] | None) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f'"{pair}" is not NAME=VALUE', param_hint=option)
        found[name] = _scalar(value)
    return found


def _scalar(text: str) -> Scalar:
    """A number where it is one, true and false, else the text itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
