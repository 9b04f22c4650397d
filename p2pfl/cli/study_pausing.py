"""`p2pfl study pause`, `resume`, `stop`: by the proposer, for all; `away`, `back`: this site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.context import JsonOption, opened_home, perform, say, say_json, say_wrapped, short

if TYPE_CHECKING:
    from p2pfl.runtime.commands.catalogue import Command
    from p2pfl.runtime.commands.decisions import Decided, StudyDecide
    from p2pfl.runtime.commands.pausing import PauseSeen, StudyPause

_IdArgument = Annotated[str, typer.Argument(help="Beginning of the study's id, 6 digits or more.")]
_ReasonOption = Annotated[str, typer.Option(help="A code without spaces; it stays on record.")]


def pause(
    context: typer.Context,
    study: _IdArgument,
    reason: _ReasonOption,
    json: JsonOption = False,
) -> None:
    """Pause a study you proposed, for every site.

    Rounds under way are finished; then everybody waits, and no ε is spent."""
    from p2pfl.runtime.commands import catalogue

    seen = _said(context, catalogue.STUDY_PAUSE, study, reason)
    if json:
        say_json(seen)
        return
    said = f"{seen.name} ({short(seen.study)}) is paused, entry {seen.seq}:"
    say_wrapped(f"{said} no site begins round {seen.from_round + 1} or a later one.")
    say("What is under way is finished. The study's expiry stays where it is.")
    say(f"Next: p2pfl study resume {short(seen.study)}")


def stop(
    context: typer.Context,
    study: _IdArgument,
    reason: _ReasonOption,
    json: JsonOption = False,
) -> None:
    """End a study you proposed before its time, for every site.

    Nothing more is trained; each site keeps the model that was reached. There is no way back."""
    from p2pfl.runtime.commands import catalogue

    seen = _said(context, catalogue.STUDY_STOP, study, reason)
    if json:
        say_json(seen)
        return
    said = f"{seen.name} ({short(seen.study)}) is stopped, entry {seen.seq}:"
    say_wrapped(f"{said} no site trains round {seen.from_round + 1} or a later one.")
    say("The rounds without training follow; then each site releases its model.")
    say("Sites that had not begun leave; ε that was reserved and not spent is free again.")
    say(f"Next: p2pfl study watch {short(seen.study)}")


def resume(
    context: typer.Context,
    study: _IdArgument,
    reason: _ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Let a study go on that you paused."""
    from p2pfl.runtime.commands import catalogue

    seen = _said(context, catalogue.STUDY_RESUME, study, reason)
    if json:
        say_json(seen)
        return
    say(f"{seen.name} ({short(seen.study)}) goes on, entry {seen.seq}.")
    say("Every site that takes part goes on as soon as it hears of it, and records it.")


def away(
    context: typer.Context,
    study: _IdArgument,
    reason: _ReasonOption,
    json: JsonOption = False,
) -> None:
    """Take no part in a study for a while: this site alone, its approval stays.

    Its training ends at once, and nobody waits for it; it catches up when it is back."""
    from p2pfl.runtime.commands import catalogue

    decided = _turn(context, catalogue.STUDY_AWAY, study, reason)
    if json:
        say_json(decided)
        return
    said = f"This site is away from {decided.name} ({short(decided.study)}), entry {decided.seq}:"
    say_wrapped(f"{said} it trains nothing, and the others go on without it.")
    say("Approval and reserved ε stay. The study's expiry stays where it is.")
    say(f"Next: p2pfl study back {short(decided.study)}")


def back(context: typer.Context, study: _IdArgument, json: JsonOption = False) -> None:
    """Take part again in a study that this site was away from."""
    from p2pfl.runtime.commands import catalogue

    decided = _turn(context, catalogue.STUDY_BACK, study, "")
    if json:
        say_json(decided)
        return
    said = f"This site is back in {decided.name} ({short(decided.study)}), entry {decided.seq}."
    say_wrapped(f"{said} It takes up the round that the others are in.")
    say(f"Next: p2pfl study watch {short(decided.study)}")


def _said(
    context: typer.Context, command: Command[StudyPause, PauseSeen], study: str, reason: str
) -> PauseSeen:
    from p2pfl.runtime.commands.pausing import StudyPause

    return perform(opened_home(context), command, StudyPause(study, reason))


def _turn(
    context: typer.Context, command: Command[StudyDecide, Decided], study: str, reason: str
) -> Decided:
    from p2pfl.runtime.commands.decisions import StudyDecide

    return perform(opened_home(context), command, StudyDecide(study, reason))
