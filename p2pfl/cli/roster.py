"""`p2pfl roster`: create, sign, install, show; votes are in `roster_votes`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.provenance.moments import moment_of
from p2pfl.cli.context import (
    COMPARE,
    JsonOption,
    opened_home,
    own_first,
    perform,
    say,
    say_fields,
    say_json,
    say_table,
    say_wrapped,
)
from p2pfl.cli.roster_votes import (
    export,
    history,
    propose_add,
    propose_remove,
    propose_replace,
    require_consent,
    set_address,
    sign_proposal,
    status,
    take_card,
    vote_again,
)

if TYPE_CHECKING:
    from p2pfl.runtime.commands.founding import RosterSeen, WitnessKeyReplaced
    from p2pfl.runtime.home import Home

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Who belongs to the consortium."
)
app.command("propose-add")(propose_add)
app.command("propose-remove")(propose_remove)
app.command("propose-replace")(propose_replace)
app.command("vote-again")(vote_again)
app.command("status")(status)
app.command("history")(history)
app.command("set-address")(set_address)
app.command("export")(export)
app.command("take-card")(take_card)


@app.command()
def create(
    context: typer.Context,
    cards: Annotated[list[Path], typer.Argument(help="The founders' card files.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The roster file to write.")],
    json: JsonOption = False,
) -> None:
    """Make the list of founders from their cards; then everyone signs it."""
    from p2pfl.runtime.commands import founding
    from p2pfl.runtime.config import read_config

    home = opened_home(context)
    consortium = read_config(home.config).consortium
    request = founding.RosterCreate(tuple(path.absolute() for path in cards), out.absolute())
    tell_roster(founding.roster_create(home, consortium, request), home, as_json=json)


@app.command()
def renew(
    context: typer.Context,
    cards: Annotated[list[Path], typer.Argument(help="Members' new card files.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The roster file to write.")],
    json: JsonOption = False,
) -> None:
    """Make the next roster with members' new cards, after a lost ledger; everyone signs it."""
    from p2pfl.runtime.commands import founding

    home = opened_home(context)
    request = founding.RosterRenew(tuple(path.absolute() for path in cards), out.absolute())
    tell_roster(founding.roster_renew(home, request), home, as_json=json)


@app.command()
def sign(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(help="A founding roster's file, which is changed, or a proposal's digest."),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Sign the founders' roster, or a proposal: at a terminal it is shown before you are asked."""
    from p2pfl.runtime.commands import catalogue, founding, roster_installing

    home = opened_home(context)
    if not what or not (Path(what).exists() or "." in what or "/" in what):
        sign_proposal(home, what, is_agreed=yes, as_json=json)
        return
    path = Path(what).absolute()
    if not (yes or json) and sys.stdin.isatty():  # scripts sign what they were told to sign
        tell_roster(founding.seen_of(home, path, founding.read_roster(path)), home, as_json=False)
        require_consent("Do all words agree? Sign?", is_agreed=False)
    seen = perform(home, catalogue.ROSTER_SIGN, roster_installing.RosterFile(path))
    tell_roster(seen, home, as_json=json)
    if not json:
        say_wrapped(
            f"Signed by this site. Hand {path.name} to {_after(seen, home)}: `p2pfl roster "
            f"{'sign' if seen.missing else 'install'} {path.name}`."
        )


@app.command()
def install(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="The signed roster, or several copies.")],
    json: JsonOption = False,
) -> None:
    """Put a roster that every founder signed into force at this site."""
    from p2pfl.runtime.commands import catalogue, roster_installing

    home = opened_home(context)
    seen = perform(
        home,
        catalogue.ROSTER_INSTALL,
        roster_installing.RosterCopies(tuple(file.absolute() for file in files)),
    )
    tell_roster(seen, home, as_json=json)


@app.command()
def show(context: typer.Context, json: JsonOption = False) -> None:
    """The roster in force."""
    from p2pfl.runtime.commands import founding

    home = opened_home(context)
    tell_roster(founding.roster_show(home), home, as_json=json)


def _after(seen: RosterSeen, home: Home) -> str:
    """Who has to do something with a roster file that this site signed."""
    others = [member.name for member in seen.members if member.name in seen.missing]
    if not others:
        others = [name for name in own_first((m.name for m in seen.members), home)][1:]
    return ", ".join(others) or "nobody else"


def _worth_of(old: WitnessKeyReplaced) -> str:
    said = ", and it may have been stolen" if old.disowned else ""
    return f"what {old.key.hex()[:16]}… cosigned counts up to {moment_of(old.until_us)}{said}"


def tell_roster(seen: RosterSeen, home: Home, *, as_json: bool) -> None:
    if as_json:
        say_json(seen)
        return
    say(f"{seen.consortium}, version {seen.version}, digest")
    say(seen.digest.hex())
    members = {member.name: member for member in seen.members}
    # A version that came by a vote was signed as a proposal, not as this file.
    is_file = not seen.installed or any(member.signed for member in seen.members)
    say_table(
        ("name", "fingerprint", "address", *["signed"] * is_file),
        [
            (
                member.name,
                member.fingerprint,
                " ".join(member.addresses) or "dials only",
                *["yes" if member.signed else "no"] * is_file,
            )
            for member in map(members.__getitem__, own_first(members, home))
        ],
    )
    for name, member in members.items():
        if member.addresses != member.addresses_voted:
            voted = " ".join(member.addresses_voted) or "dials only"
            said = f"{name} announced its address after version {seen.version}, which has {voted}."
            say_wrapped(said)
    for old in seen.witness_before:
        say_wrapped(f"{old.name} replaced a witness key: {_worth_of(old)}.")
    say("words of each, to be compared by telephone:")
    say_fields([(f"  {name}", members[name].words) for name in own_first(members, home)])
    if not seen.installed:
        say_wrapped(COMPARE)
    if seen.missing:
        missing = ", ".join(own_first(seen.missing, home))
        say_wrapped(f"Not signed yet by {missing}: `p2pfl roster sign {seen.path.name}`")
    elif seen.installed:
        say("In force at this site.")
    else:
        say(f"Complete: `p2pfl roster install {seen.path.name}` puts it into force here.")
