"""`p2pfl ledger status` and `check-fork`: who cosigned what, and whether a proof holds."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from p2pfl.cli.context import JsonOption, now_us, opened_home, say, say_json

EXIT_FORK = 12


def status(context: typer.Context, json: JsonOption = False) -> None:
    """What this site holds of the others' ledgers, and who cosigned its own."""
    from p2pfl.runtime.commands.ledger_witnesses import witness_status

    seen = witness_status(opened_home(context), now_us=now_us())
    if json:
        say_json(seen)
        return
    say(
        f"own ledger: {seen.size} entries; {seen.cosigned_size} cosigned by {len(seen.cosigned_by)}"
    )
    met = "met" if seen.quorum_met else "not met"
    say(f"quorum: {met} ({len(seen.cosigned_by)} of {seen.needed} needed)")
    say(f"newest head with a quorum: {seen.witnessed_size} entries")
    if seen.frozen:
        say("FROZEN: this ledger has two signed histories and takes no more entries.")
        say("  Find out who has the log key, then: p2pfl ledger new-incarnation")
    say(f"proofs of forks: {len(seen.forks)}")
    for fork in seen.forks:
        say(f"  {fork.form} against {fork.about}: p2pfl ledger check-fork")
        say(f"    {fork.file}")
    say(f"{'site':<24}{'entries':>9}{'seen':>8}{'cosigned':>10}{'mirrored':>10}{'ours':>9}")
    for peer in seen.peers:
        size = "none" if peer.size < 0 else str(peer.size)
        row = f"{peer.name[:23]:<24}{size:>9}{_age(peer.seen_s):>8}{_age(peer.cosigned_s):>10}"
        say(f"{row}{peer.mirrored:>10}{peer.cosigned_own:>9}")
        for line in textwrap.wrap(", ".join(peer.cosigned_by), 58):
            say(f"    cosigned by: {line}")


def check_fork(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A proof that a ledger has two histories.")],
    json: JsonOption = False,
) -> int:
    """Check a proof of a fork with nothing but its file, offline.

    Exit codes: 12 a fork is proven, 65 the file proves nothing, 66 there is no such file."""
    from p2pfl.runtime.commands.ledger_witnesses import fork_checked

    seen = fork_checked(file)
    if json:
        say_json(seen)
    else:
        say(f"{seen.form}: {seen.sentence}")
        whose = "The file itself shows whose keys these are" if seen.bound else "Compare these keys"
        say(f"{whose}:")
        for key in seen.keys:
            say(f"  {key}")
    return EXIT_FORK


def register(app: typer.Typer) -> None:
    """Make them commands of `p2pfl ledger`."""
    app.command()(status)
    app.command("check-fork")(check_fork)


def _age(seconds: int) -> str:
    """How long ago, short.

    >>> _age(-1), _age(5), _age(7200)
    ('never', '5 s', '2 h')
    """
    if seconds < 0:
        return "never"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
