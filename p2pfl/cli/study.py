"""`p2pfl study`: validate, propose, list, show, decide, steer, pause, and what is beside them."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli import (
    study_bundle,
    study_code,
    study_new,
    study_pausing,
    study_plans,
    study_watch,
)
from p2pfl.cli.context import (
    JsonOption,
    as_typed,
    chosen_home,
    day,
    opened_home,
    own_first,
    perform,
    say,
    say_fields,
    say_json,
    say_table,
    say_wrapped,
    short,
)

if TYPE_CHECKING:
    from p2pfl.runtime.commands.decisions import Decided
    from p2pfl.runtime.commands.studies import StudyKept
    from p2pfl.runtime.commands.study_words import StudySummary
    from p2pfl.runtime.home import Home

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Draft, propose, read and decide on studies.",
)
app.command("new")(study_new.new)
app.command("plans")(study_plans.plans)
app.command("dry-run")(study_watch.dry_run)
app.command("watch")(study_watch.watch)
app.command("results")(study_watch.results)

_IdArgument = Annotated[str, typer.Argument(help="Beginning of the study's id, 6 digits or more.")]
_ReasonOption = Annotated[str, typer.Option(help="A code without spaces; it stays on record.")]


@app.command()
def validate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A manifest.")],
    json: JsonOption = False,
) -> None:
    """Check a manifest and say what it means. Nothing is recorded."""
    from p2pfl.runtime.commands import studies
    from p2pfl.runtime.home import Home

    request = studies.StudyFile(file.absolute())
    home = Home(chosen_home(context))
    _tell(studies.study_validate(home, request), home, as_json=json)


@app.command()
def propose(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The manifest.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Proposal file for other sites [default: FILE.study].",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Propose a study: record it here and seal it for the others."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import catalogue, studies

    target = (out or file.with_suffix(".study")).absolute()
    with working("Checking and recording the study …"):
        kept = perform(
            opened_home(context),
            catalogue.STUDY_PROPOSE,
            studies.StudyPropose(file.absolute(), target),
        )
    _tell_kept(kept, as_json=json)


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A proposal file from another site.")],
    json: JsonOption = False,
) -> None:
    """Take over a study that another site proposed."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import catalogue, studies

    with working("Checking and recording the study …"):
        kept = perform(
            opened_home(context), catalogue.STUDY_IMPORT, studies.StudyFile(file.absolute())
        )
    _tell_kept(kept, as_json=json)


@app.command("list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """All studies known at this site."""
    from p2pfl.cli.progress import paged
    from p2pfl.runtime.commands import studies

    found = studies.study_list(opened_home(context))
    if json:
        say_json(found)
        return
    if not found:
        say("No studies yet: `p2pfl study new`, or `p2pfl study import` another site's.")
        return
    with paged(len(found) + 1):
        say_table(
            ("study", "name", "proposer", "here", "rounds", "expires"),
            [
                (
                    short(line.study),
                    line.name,
                    line.proposer,
                    _standing(line.standing, is_paused=line.is_paused, is_stopped=line.is_stopped),
                    f"{line.rounds_done}/{line.rounds}",
                    day(line.expires_s),
                )
                for line in found
            ],
        )


def _standing(standing: str, *, is_paused: bool, is_stopped: bool) -> str:
    """How a study stands here, in a word: its proposer's say before the own approval."""
    if standing not in ("approved", "undecided"):
        return standing
    return "paused" if is_paused else "stopped" if is_stopped else standing


@app.command()
def show(context: typer.Context, study: _IdArgument, json: JsonOption = False) -> None:
    """What a study asks for and promises, in words."""
    from p2pfl.runtime.commands import studies

    home = opened_home(context)
    _tell(studies.study_show(home, study), home, as_json=json)


@app.command()
def approve(
    context: typer.Context,
    study: _IdArgument,
    data: Annotated[str, typer.Option(help="The dataset it may train on.")],
    role: Annotated[
        str,
        typer.Option(
            help="In which role you approve [default: the policy's first].", show_default=False
        ),
    ] = "",
    approver: Annotated[
        str,
        typer.Option(
            "--by",
            help="Who approves; kept erasable, recorded as a commitment [default: you].",
            show_default=False,
        ),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Let a study train on a dataset; its whole planned ε is reserved."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import catalogue, decisions

    with working("Adding up what the study will spend …"):
        decided = perform(
            opened_home(context),
            catalogue.STUDY_APPROVE,
            decisions.StudyApprove(study, data, approver or getpass.getuser(), role),
        )
    _tell_decided(decided, as_json=json)


@app.command()
def refuse(
    context: typer.Context,
    study: _IdArgument,
    reason: _ReasonOption,
    json: JsonOption = False,
) -> None:
    """Refuse a study, on record."""
    from p2pfl.runtime.commands import catalogue, decisions

    decided = perform(
        opened_home(context), catalogue.STUDY_REFUSE, decisions.StudyDecide(study, reason)
    )
    _tell_decided(decided, as_json=json)


@app.command()
def revoke(
    context: typer.Context,
    study: _IdArgument,
    reason: _ReasonOption = "withdrawn",
    json: JsonOption = False,
) -> None:
    """Take an approval back: training stops, nothing more is released."""
    from p2pfl.runtime.commands import catalogue, decisions

    decided = perform(
        opened_home(context), catalogue.STUDY_REVOKE, decisions.StudyDecide(study, reason)
    )
    _tell_decided(decided, as_json=json)


@app.command()
def steer(
    context: typer.Context,
    study: _IdArgument,
    changes: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE...", help="Arguments and new values.")
    ],
    json: JsonOption = False,
) -> None:
    """Change training arguments of a study you proposed.

    Inside the ranges that its manifest names; every site follows and records it."""
    from p2pfl.runtime.commands import catalogue, steering

    steered = perform(
        opened_home(context), catalogue.STUDY_STEER, steering.StudySteer(study, tuple(changes))
    )
    if json:
        say_json(steered)
        return
    say(f"{steered.name} ({short(steered.study)}) is steered, entry {steered.seq}:")
    say(f"from round {steered.from_round + 1} on {', '.join(steered.steered)}.")
    say("Every site that takes part follows from its next round on, and records it.")


app.command("pause")(study_pausing.pause)
app.command("resume")(study_pausing.resume)
app.command("stop")(study_pausing.stop)
app.command("away")(study_pausing.away)
app.command("back")(study_pausing.back)


def _tell(seen: StudySummary, home: Home, *, as_json: bool) -> None:
    if as_json:
        say_json(seen)
        return
    sites = ", ".join(own_first(seen.sites, home))
    proposed = f", proposed by {seen.proposer}" if seen.proposer else ""
    say_fields(
        [
            ("study", f"{seen.name}{proposed}; here: {seen.standing}"),
            ("id", seen.study.hex()),
            (
                "sites",
                f"{sites}; {seen.sites_min} approvals start it",
            ),
            (
                "rounds",
                f"{seen.rounds} with training, {seen.consensus_rounds} without at the end; "
                f"{seen.rounds_done} done here; expires {day(seen.expires_s)}",
            ),
            ("plan", f"{seen.plan}, {seen.parameters} parameters; {'; '.join(seen.arguments)}"),
            ("data", seen.data),
            ("privacy", seen.privacy),
            ("averaging", seen.averaging),
            ("robustness", seen.robustness),
            *([("apart", seen.apart)] if seen.apart else []),
            *([("paused", seen.paused)] if seen.paused else []),
            *([("stopped", seen.stopped)] if seen.stopped else []),
        ]
    )
    if seen.code is not None:
        study_code.tell_code(seen.code)
    if seen.bundle is not None:
        study_bundle.tell_bundle(seen.bundle)


def _tell_kept(kept: StudyKept, *, as_json: bool) -> None:
    if as_json:
        say_json(kept)
        return
    say(f"{kept.name}, proposed by {kept.proposer}, is on record:")
    say(kept.study.hex())
    for warning in kept.warnings:
        say_wrapped(f"{warning}.")
    if kept.proposal:
        say(f"For the other sites: {as_typed(kept.proposal)}")
        say("A running node also tells them by itself.")
    say(f"Next: p2pfl study show {short(kept.study)}, then approve or refuse it.")


def _tell_decided(decided: Decided, *, as_json: bool) -> None:
    if as_json:
        say_json(decided)
        return
    say(f"{decided.name} ({short(decided.study)}) is {decided.decision}, entry {decided.seq}.")
    if decided.decision == "approved" and decided.delta:
        say(
            f"ε of the dataset: {decided.epsilon_before:.3f} before, {decided.epsilon_after:.3f} "
            f"after all rounds, cap {decided.epsilon_cap:g} (δ = {decided.delta})."
        )
