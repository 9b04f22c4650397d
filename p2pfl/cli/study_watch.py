"""`p2pfl study watch`, `results` and `dry-run`: following a study, and trying it out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.context import (
    JsonOption,
    now_us,
    opened_home,
    say,
    say_fields,
    say_json,
    say_table,
    say_wrapped,
    short,
)

if TYPE_CHECKING:
    from p2pfl.runtime.commands.study_neighbours import NeighbourSeen
    from p2pfl.runtime.commands.study_rehearsing import DryRunSeen
    from p2pfl.runtime.commands.study_results import ResultsSeen, RoundSeen

_IdArgument = Annotated[str, typer.Argument(help="Beginning of the study's id, 6 digits or more.")]


def watch(context: typer.Context, study: _IdArgument, json: JsonOption = False) -> int:
    """Follow a study live until it ends here. Exit code 0 if it completed, 1 if not.

    With --json: the node's JSON lines about it."""
    from p2pfl.cli.study_following import watch_study

    return watch_study(opened_home(context), study, as_json=json)


def results(
    context: typer.Context,
    study: _IdArgument,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write the rounds for TensorBoard instead.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """What came of a study here: rounds, privacy, model, next steps."""
    if tensorboard:
        _write_tensorboard(context, study, json)
        return
    from p2pfl.cli.progress import paged
    from p2pfl.runtime.commands.study_results import study_results

    found = study_results(opened_home(context), study)
    if json:
        say_json(found)
        return
    with paged(len(found.rounds_seen) + 12):
        _tell_results(found)


def _write_tensorboard(context: typer.Context, study: str, json: bool) -> None:
    from p2pfl.runtime.commands.tensorboard import write_tensorboard

    done = write_tensorboard(opened_home(context), study, now_s=now_us() / 1e6)
    if json:
        say_json(done)
        return
    say(f"{done.numbers} numbers of {done.name}: tensorboard --logdir {done.folder}")
    say("Scores are computed from patients: the files are for people at this site.")


def _tell_results(found: ResultsSeen) -> None:
    say(
        f"{found.name} ({short(found.study)}) is {found.standing}; "
        f"{found.rounds_done} of {found.rounds} rounds done."
    )
    if found.rounds_seen:
        say_table(
            ("round", "", "heard", "averaging", "ε", "AUC", "accuracy", "s"),
            [_round_row(seen) for seen in found.rounds_seen],
        )
        say("heard: accepted updates (+ rejected, late). ε: of this study alone.")
        say("AUC, accuracy: on the own hold-out, from the log, for people here only.")
    if found.neighbours:
        say()
        say_table(
            ("neighbour", "averaged", "kept", "clipped", "dropped", "refused", "recently bent"),
            [_neighbour_row(seen) for seen in found.neighbours],
        )
        say("Rounds. Bent: clipped or dropped, in the last ten. Evidence, no verdict: unusual")
        say("patients look like this too, and an attacker that knows the rule need not.")
    spent = f"ε = {found.epsilon:.3f} at δ = {found.delta}"
    measured = _measured(found)
    if measured:
        say_wrapped(f"Measured by the study's own code: {measured}.")
    fields = [("privacy", spent if found.epsilon else "no ε spent: trained without, or not at all")]
    if found.steered:
        fields.append(("steered", "; ".join(found.steered)))
    if found.paused:
        fields.append(("paused", found.paused))
    if found.stopped:
        fields.append(("stopped", found.stopped))
    if found.kept_round is not None:
        best = f"round {found.kept_round + 1}, by the own hold-out"
        fields.append(("best model", f"{best}; on record as model.kept"))
    if found.model is not None:
        fields.append(("model", f"SHA-256 {found.model.hash.hex()}, entry {found.model.seq}"))
        fields.append(("lies in", str(found.folder or "nowhere yet: start the node")))
    say()
    say_fields(fields)
    steps = _next(found)
    width = max(len(command) for command, _ in steps)
    for number, (command, what) in enumerate(steps):
        say(f"{'      ' if number else 'Next: '}{command:<{width}}  {what}")


def _measured(found: ResultsSeen) -> str:
    """The newest round that has measures."""
    with_measures = [seen for seen in found.rounds_seen if seen.measures]
    if not with_measures:
        return ""
    last = with_measures[-1]
    told = ", ".join(f"{name} {value:.3f}" for name, value in sorted(last.measures.items()))
    return f"{told} (round {last.round + 1})"


def _round_row(seen: RoundSeen) -> tuple[str, ...]:
    others = [
        f"+{count} {name}"
        for name, count in (("rejected", seen.rejected), ("late", seen.late))
        if count
    ]
    used = ", ".join(f"{count} {verdict}" for verdict, count in seen.verdicts.items())
    if seen.steps is not None:
        used = f"{used or '-'}; {seen.steps} steps"
    if seen.guard_step is not None and seen.guard_step < 1.0:
        used += f"; guard took {seen.guard_step:.0%}"
    return (
        str(seen.round + 1),
        "" if seen.phase == "training" else seen.phase,
        " ".join([str(seen.accepted), *others]),
        used or "-",
        "-" if seen.epsilon is None else f"{seen.epsilon:.3f}",
        "-" if seen.auc is None else f"{seen.auc:.3f}",
        "-" if seen.accuracy is None else f"{seen.accuracy:.3f}",
        "-" if seen.seconds is None else f"{seen.seconds:.2f}",
    )


def _neighbour_row(seen: NeighbourSeen) -> tuple[str, ...]:
    return (
        seen.name,
        str(seen.averaged),
        str(seen.kept),
        str(seen.clipped),
        str(seen.dropped),
        str(seen.rejected + seen.late),
        f"{seen.bent_recently:.0%}",
    )


def _next(found: ResultsSeen) -> list[tuple[str, str]]:
    """Commands, and what each is for."""
    study = short(found.study)
    if found.model is not None:
        return [
            (f"p2pfl model evaluate {study}", "how good it is on your patients"),
            (f"p2pfl model export {study} -o DIR", "to hand it on, with its proof"),
            ("p2pfl ledger audit", "to check every round again"),
        ]
    match found.standing:
        case "approved":
            return [(f"p2pfl study watch {study}", "to follow it")]
        case "away":
            return [(f"p2pfl study back {study}", "to take part again")]
        case "undecided":
            return [(f"p2pfl study show {study}", "then approve or refuse it")]
        case _:
            return [("p2pfl ledger show", "says what was decided and when")]


def dry_run(
    context: typer.Context,
    manifest: Annotated[str, typer.Argument(help="A manifest, or a known study's id.")],
    data: Annotated[
        str,
        typer.Option(
            help="A dataset from `p2pfl data list` [default: the study's, or the only one].",
            show_default=False,
        ),
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds to try.")] = 2,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="On patients that do not exist, by its schema.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Try a study's local work here: time, loss, ε. Nothing is recorded or released."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands.study_rehearsing import DryRun, study_dry_run

    home = opened_home(context)
    on = "patients that do not exist" if synthetic else "this site's data"
    with working(f"Trying the study on {on} …"):
        seen = study_dry_run(home, DryRun(manifest, data, rounds, synthetic))
    if json:
        say_json({**_as_fields(seen), "recorded": False})
        return
    _tell_dry_run(seen)


def _as_fields(seen: DryRunSeen) -> dict[str, object]:
    return {name: getattr(seen, name) for name in seen.__slots__}


def _tell_dry_run(seen: DryRunSeen) -> None:
    tried = seen.tried
    on = f'"{seen.data}"' if seen.data else "patients that do not exist"
    say(f"{seen.name} on {on}, alone, {len(tried.rounds)} rounds:")
    say_table(
        ("round", "time", "steps", "loss", "AUC", "ε of the study"),
        [
            (
                str(number),
                f"{one.seconds:.2f} s",
                str(one.steps),
                f"{one.loss:.3f}",
                "-" if one.auc is None else f"{one.auc:.3f}",
                f"{epsilon:.3f}" if seen.is_private else "NONE",
            )
            for number, (one, epsilon) in enumerate(
                zip(tried.rounds, seen.epsilon_rounds, strict=True), start=1
            )
        ],
    )
    last = tried.rounds[-1].measures if tried.rounds else {}
    measured = ", ".join(f"{name} {value:.3f}" for name, value in sorted(last.items()))
    say_fields(
        [
            *([("measures", measured)] if measured else []),
            ("parameters", str(tried.parameters)),
            ("patients", f"{tried.patients_train} to train on, {tried.patients_holdout} held out"),
            *[("note", note) for note in tried.notes],
            ("privacy", _privacy_words(seen)),
            ("time", _time_words(seen)),
        ]
    )
    say("Nothing was recorded, released or charged; the tried models are gone.")
    if seen.data:
        say("Loss and AUC were computed from patients: for people at this site only.")


def _privacy_words(seen: DryRunSeen) -> str:
    if not seen.is_private:
        return "NONE: the study's updates would be computed from patients without protection"
    if not seen.data:
        return f"ε of the study is {seen.epsilon_study:.3f} after all {seen.rounds_planned} rounds"
    verdict = "fits" if seen.epsilon_after <= seen.epsilon_cap else "DOES NOT FIT"
    return (
        f"ε of the study is {seen.epsilon_study:.3f} after all {seen.rounds_planned} rounds; the "
        f"dataset's goes from {seen.epsilon_before:.3f} to {seen.epsilon_after:.3f} at δ = "
        f"{seen.delta}, which {verdict} its cap of {seen.epsilon_cap:g}"
    )


def _time_words(seen: DryRunSeen) -> str:
    # The first round of a process also warms its libraries up.
    total_s = math.ceil(seen.tried.rounds[-1].seconds * seen.rounds_planned)
    return (
        f"about {total_s} s of training in all {seen.rounds_planned} rounds, besides waiting for "
        "neighbours"
    )
