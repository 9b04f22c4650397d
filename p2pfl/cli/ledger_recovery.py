"""`p2pfl ledger recover`: what a person does after a loss."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.context import JsonOption, now_us, opened_home, perform, say, say_fields, say_json

if TYPE_CHECKING:
    from p2pfl.runtime.commands.ledger_recovering import LedgerRecovered

YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without it you are told what.")]
FewerOption = Annotated[
    bool, typer.Option("--fewer-ok", help="Go on though too few sites could be asked.")
]
WaitOption = Annotated[
    float, typer.Option("--wait", min=1.0, max=600.0, help="Seconds to wait for the others.")
]


def recover(
    context: typer.Context,
    yes: YesOption = False,
    fewer_ok: FewerOption = False,
    wait: WaitOption = 20.0,
    json: JsonOption = False,
) -> None:
    """Put the ledger together again after a loss, from the other sites' mirrors.

    For a restored old backup, a lost or damaged disk. The node must be stopped, and the other
    sites' nodes must run. The files that are here are kept in damaged-N."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import ledger_recovering as recovering

    home = opened_home(context)
    with working("Asking the other sites for this site's ledger …"):
        done = recovering.recover(
            home, recovering.Recover(yes, fewer_ok, wait), now_us=now_us, tell=lambda line: None
        )
    if json:
        say_json(done)
    else:
        _tell_recovered(done)


def _tell_recovered(done: LedgerRecovered) -> None:
    say_fields(
        [
            ("ledger", f"{done.size} entries, whole; {done.kept} were here, {done.taken} came"),
            ("from", ", ".join(done.given_by) or "nobody was needed"),
            *([("not asked", ", ".join(done.silent))] if done.silent else []),
            ("old files", str(done.damaged)),
        ]
    )
    say()
    if done.datasets_missing:
        say(f"{done.datasets_missing} dataset(s) are on record, but not in this home: register")
        say("each file again with `p2pfl data add`; it keeps what it has spent.")
    if done.studies_missing:
        say(f"{done.studies_missing} manifest(s) are missing: `p2pfl study import` them again,")
        say("or wait until the proposer's node sends them.")
    if done.secrets_lost:
        say(f"{done.secrets_lost} name(s) of approvers were lost with the files: no other site has")
        say("them. The approvals stay; the ledger says that these names are gone.")
    say("Start the node: `p2pfl node start`.")


def mirror(
    context: typer.Context,
    own: Annotated[
        bool, typer.Option("--own", help="Have the others give this site's ledger back: a drill.")
    ] = False,
    wait: WaitOption = 20.0,
    json: JsonOption = False,
) -> None:
    """What this site holds of the others' ledgers; with --own, what they hold of its own.

    A running node keeps mirrors fresh. --own needs the node stopped, and changes nothing."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import ledger_mirrors

    home = opened_home(context)
    if own:
        with working("Asking the other sites for this site's ledger …"):
            seen = ledger_mirrors.ask_for_own(home, wait_s=wait)
    else:
        seen = ledger_mirrors.mirrors_here(home)
    if json:
        say_json(seen)
        return
    say(f"{'site':<28}{'entries':>10}{'hashes':>10}{'held':>10}{'readable':>10}")
    for other in seen.others:
        row = f"{other.name[:27]:<28}{other.size:>10}{other.leaves:>10}"
        say(f"{row}{other.entries:>10}{other.readable:>10}")
    if seen.own is not None:
        silent = f"; not reached: {', '.join(seen.own.silent)}" if seen.own.silent else ""
        say(f"own ledger: {seen.own.entries} of {seen.own.size} entries came back{silent}")


def new_incarnation(
    context: typer.Context,
    yes: YesOption = False,
    fewer_ok: FewerOption = False,
    wait: WaitOption = 20.0,
    json: JsonOption = False,
) -> None:
    """Go on in a new ledger that names the old one, after a loss that nobody can make good.

    Also after a fork. What datasets have spent comes along; what is unknown counts as their whole
    cap. Every member then signs the next roster. The node must be stopped."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import incarnations

    with working("Asking the other sites for this site's ledger …"):
        done = incarnations.new_incarnation(
            opened_home(context),
            incarnations.NewIncarnation(yes, fewer_ok, wait),
            now_us=now_us,
            random_bytes=os.urandom,
        )
    if json:
        say_json(done)
        return
    lost = done.previous_size - done.missing_from
    spent = f"{done.datasets} carried over"
    say_fields(
        [
            ("new ledger", done.log_id.hex()),
            ("goes on from", f"{done.previous.hex()[:16]}, {done.previous_size} entries"),
            ("lost", f"{lost} entries, from {done.missing_from} on" if lost else "nothing"),
            ("datasets", spent + (f", {done.exhausted} exhausted" if done.exhausted else "")),
            ("old files", str(done.damaged)),
        ]
    )
    say()
    say("Next, as the other sites do not know the new ledger yet:")
    say(f"1. p2pfl roster renew {done.card} --out next.roster")
    say("2. every member: p2pfl roster sign next.roster, then roster install")
    say("3. p2pfl node start, and approve your studies anew")


def rotate_key(
    context: typer.Context,
    yes: YesOption = False,
    compromised_since: Annotated[
        str, typer.Option(help="UTC time since which others may have had the old key.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Replace the key that signs this site's ledger; the identity key signs the change."""
    from p2pfl.runtime.commands import catalogue, ledger_changing

    request = ledger_changing.RotateKey(yes, ledger_changing.time_us_of(compromised_since))
    done = perform(opened_home(context), catalogue.LEDGER_ROTATE_KEY, request)
    if json:
        say_json(done)
        return
    say(f"Entry {done.seq}: the ledger goes on under the key {done.new.hex()[:16]}.")
    say("Make a new key backup now (`p2pfl keys backup`): older ones do not open the ledger.")


def redact(
    context: typer.Context,
    seq: Annotated[int, typer.Argument(min=0, help="Number of the entry.")],
    field: Annotated[str, typer.Argument(help="What of it, like approver.")],
    basis: Annotated[str, typer.Option(help="Legal ground, a code like gdpr-17-1-b.")],
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Erase a value that an entry commits to, like an approver's name. The entry stays."""
    from p2pfl.runtime.commands import catalogue, ledger_changing

    done = perform(
        opened_home(context),
        catalogue.LEDGER_REDACT,
        ledger_changing.Redact(seq, field, basis, yes),
    )
    if json:
        say_json(done)
        return
    where = "was on record before" if done.recorded_as < 0 else f"is entry {done.recorded_as}"
    say(f"{done.field} of entry {done.seq} is erased; that it was {where}.")
    say("Backups of the home still hold it: erase it there, too.")


def register(app: typer.Typer) -> None:
    """Make them commands of `p2pfl ledger`."""
    app.command()(recover)
    app.command()(mirror)
    app.command("new-incarnation")(new_incarnation)
    app.command("rotate-key")(rotate_key)
    app.command()(redact)
