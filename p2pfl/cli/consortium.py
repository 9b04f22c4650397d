"""`p2pfl consortium`: found one, invite others to it, join one; the paths that people take."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.provenance.moments import minute_of
from p2pfl.cli.context import (
    COMPARE,
    JsonOption,
    chosen_home,
    opened_home,
    perform,
    say,
    say_fields,
    say_json,
    say_wrapped,
)
from p2pfl.cli.roster import tell_roster
from p2pfl.cli.roster_votes import YesOption, require_consent, tell_vote

if TYPE_CHECKING:
    from p2pfl.runtime.commands.inviting import ConsortiumSeen, InvitationSeen
    from p2pfl.runtime.commands.joining import InvitationRead, Joining
    from p2pfl.runtime.home import Home

ASK_AGAIN_S = 5.0

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Found a consortium, invite others to it, join one.",
)


@app.command()
def create(
    context: typer.Context,
    cards: Annotated[list[Path], typer.Argument(help="The other founders' card files.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The roster file to write.")],
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Found a consortium: its roster from the founders' cards, compared, and signed by this site.

    Example: p2pfl consortium create east.card south.card --out heart.roster"""
    from p2pfl.runtime.commands import catalogue, founding, roster_installing
    from p2pfl.runtime.config import read_config

    home = opened_home(context)
    config = read_config(home.config)
    own, known = home.card(config.name), {path.absolute() for path in cards}
    digests = {path.read_bytes() for path in known if path.is_file()}
    given = sorted(known if own.read_bytes() in digests else known | {own})
    request = founding.RosterCreate(tuple(given), out.absolute())
    drafted = founding.roster_create(home, config.consortium, request)
    if not json:
        tell_roster(drafted, home, as_json=False)
    try:
        require_consent("Do all words agree? Sign?", is_agreed=yes or json)
    except Exception:
        out.unlink(missing_ok=True)  # as if nothing had been tried
        raise
    seen = perform(home, catalogue.ROSTER_SIGN, roster_installing.RosterFile(out.absolute()))
    if json:
        say_json(seen)
        return
    say_wrapped(
        f"Signed by this site. Now hand {out.name} from founder to founder; each runs `p2pfl "
        f"roster sign {out.name}`. When nobody is missing, all run `p2pfl roster install "
        f"{out.name}` and `p2pfl node start`."
    )


@app.command()
def show(context: typer.Context, json: JsonOption = False) -> None:
    """Members and their words, invitations that wait, and what comes next."""
    from p2pfl.runtime.commands import inviting

    home = opened_home(context)
    seen = inviting.consortium_show(home, time.time())  # noqa: TID251 - the command's clock
    say_json(seen) if json else _tell(seen, home)


@app.command()
def invite(
    context: typer.Context,
    hours: Annotated[int, typer.Option(help="How long it can be answered.")] = 48,
    admission: Annotated[
        str,
        typer.Option(help="host:port where this site's running node answers the new site."),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Make an invitation: one line for one new site; it is a secret until it is used.

    Example: p2pfl consortium invite --admission 192.0.2.7:7199"""
    from p2pfl.runtime.commands import catalogue, inviting
    from p2pfl.runtime.control_call import node_is_running

    home = opened_home(context)
    made = perform(home, catalogue.CONSORTIUM_INVITE, inviting.Invite(hours, admission))
    if json:
        say_json(made)
        return
    say(made.line)
    say()
    say_wrapped(
        f"Send this line to one site, over a channel that only its people read. It lets them ask "
        f"to join {made.consortium} until {_moment(made.expires_s)}; members still have to vote. "
        "They run `p2pfl consortium join` and paste it. Read them this site's words by telephone:"
    )
    say(f"  {made.words}")
    if admission and not node_is_running(home):
        say_wrapped(f"Start the node: nothing answers at {admission} without it.")
    if not admission:
        say_wrapped("They send a line back: `p2pfl consortium accept LINE`.")


@app.command()
def withdraw(
    context: typer.Context,
    invitation: Annotated[str, typer.Argument(help="How its id begins (`consortium show`).")],
    json: JsonOption = False,
) -> None:
    """Take an invitation back: its line is worth nothing from then on."""
    from p2pfl.runtime.commands import catalogue, inviting

    request = inviting.Withdraw(invitation)
    seen = perform(opened_home(context), catalogue.CONSORTIUM_WITHDRAW, request)
    say_json(seen) if json else say(f"Invitation {seen.id.hex()[:12]} was taken back.")


@app.command()
def accept(
    context: typer.Context,
    reply: Annotated[
        str, typer.Argument(help="The line that the new site sent back, or its name.")
    ] = "",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Look at a site that answered an invitation; propose it, and sign the proposal."""
    from p2pfl.runtime.commands import catalogue, inviting

    home = opened_home(context)
    applicant = inviting.find_applicant(home, reply, time.time())  # noqa: TID251 - see `show`
    if not json:
        say_fields(
            [
                ("asks to join", applicant.name),
                ("dialled at", " ".join(applicant.addresses) or "dials only"),
                ("fingerprint", applicant.fingerprint),
                ("words", applicant.words),
            ]
        )
        say_wrapped(COMPARE)
    require_consent("Do the words agree? Propose it and sign?", is_agreed=yes or json)
    request = inviting.AcceptApplicant(reply, applicant.card)
    seen = perform(home, catalogue.CONSORTIUM_ACCEPT, request)
    say_json(seen) if json else tell_vote(seen)


@app.command()
def join(
    context: typer.Context,
    line: Annotated[
        str,
        typer.Argument(
            help="The invitation, or - to read it from standard input; asked for if left out. "
            "Other users of this machine can see what stands on a command line."
        ),
    ] = "",
    yes: YesOption = False,
    wait: Annotated[
        int, typer.Option(help="Minutes to go on asking until this site is a member.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Answer an invitation; later, run it again to ask how things stand."""
    from p2pfl.runtime.commands import joining
    from p2pfl.runtime.home import Home

    home = Home(chosen_home(context))
    if not line:
        joining.check_no_member(home)
    asks_again = not line and home.invited.exists()  # the words were compared the first time
    invitation = joining.followed_or_read(
        home,
        _given(line, home),
        time.time(),  # noqa: TID251 - see `show`
    )
    _require_home(home, invitation.consortium)
    joining.check_can_join(home, invitation)
    if not (json or asks_again):
        _show_invitation(joining.invitation_read(invitation))
    require_consent(
        "Do the words agree? Ask to join?",
        is_agreed=yes or json or asks_again,
        otherwise="Nothing was sent.",
    )
    deadline_s = time.monotonic() + 60.0 * wait
    while True:
        done = joining.join(home, invitation, lambda: _install(home), random_bytes=os.urandom)
        left_s = deadline_s - time.monotonic()
        if done.standing is not joining.Standing.WAITING or left_s <= 0:
            break
        time.sleep(min(ASK_AGAIN_S, left_s))
    say_json(done) if json else _tell_joining(done)


def _given(line: str, home: Home) -> str:
    """What was pasted; nothing where this home follows an invitation already."""
    if line == "-" or (not line and not home.invited.exists() and not sys.stdin.isatty()):
        return sys.stdin.read(16 * 1024)
    if not line and not home.invited.exists():
        return str(typer.prompt("Paste the invitation"))
    return line


def _require_home(home: Home, consortium: str) -> None:
    """Raises OperatorError with the command that makes the home for this very consortium."""
    from p2pfl.runtime.errors import EXIT_NO_INPUT, OperatorError

    if home.config.is_file():
        return
    raise OperatorError(
        f"The invitation is to {consortium}; there is no home at {home.path} yet.",
        fix=f"Create it with `p2pfl --home {home.path} init --name NAME --listen HOST:PORT "
        f"--consortium {consortium}`, then join.",
        exit_code=EXIT_NO_INPUT,
    )


def _install(home: Home) -> None:
    from p2pfl.runtime.commands import catalogue, joining, roster_installing

    perform(
        home,
        catalogue.ROSTER_INSTALL,
        roster_installing.RosterCopies((joining.received_chain(home),)),
    )


def _show_invitation(seen: InvitationRead) -> None:
    say_fields(
        [
            ("consortium", seen.consortium),
            ("invited by", seen.fingerprint),
            ("its words", seen.words),
            ("until", _moment(seen.expires_s)),
        ]
    )
    say_wrapped(f"{COMPARE.removesuffix('sign.')}join.")


def _tell_joining(done: Joining) -> None:
    from p2pfl.runtime.commands.joining import Standing

    if done.standing is Standing.MEMBER:
        say_wrapped(
            f"This site is a member of {done.consortium}, version {done.version}, with "
            f"{', '.join(done.members)}. Next: `p2pfl data add`, `p2pfl node start`."
        )
        return
    say_wrapped("Read this site's words to the inviter by telephone:")
    say(f"  {done.words}")
    if done.standing is Standing.WAITING:
        say_wrapped(
            "The inviter's node has this site's card. Its people accept it and the members vote; "
            "then `p2pfl consortium join` again takes over their roster (--wait 60 goes on "
            "asking for an hour)."
        )
        return
    say_wrapped(f"Nobody could be asked ({done.why}). Send this line to the inviter:")
    say()
    say(done.reply)
    say()
    say_wrapped(
        "They run `p2pfl consortium accept LINE`. Once the members have voted, one of them runs "
        "`p2pfl roster export --out FILE`; put it into force here with `p2pfl roster install FILE`."
    )


def _tell(seen: ConsortiumSeen, home: Home) -> None:
    say_fields(
        [
            ("consortium", seen.consortium),
            ("this site", seen.name),
            ("fingerprint", seen.fingerprint),
            ("words", seen.words),
        ]
    )
    if seen.roster is not None:
        tell_roster(seen.roster, home, as_json=False)
    for invitation in seen.invitations:
        _tell_invitation(invitation)
    if seen.answered:
        say_wrapped(f"It answered the invitation of the site whose words are: {seen.answered}")
    say_wrapped(seen.next)


def _tell_invitation(seen: InvitationSeen) -> None:
    where = f", answered at {seen.admission}" if seen.admission else ""
    say(f"invitation {seen.id.hex()[:12]} until {_moment(seen.expires_s)}{where}")
    if seen.applicant is not None:
        if seen.is_member:
            say_wrapped(f"  {seen.applicant.name} is a member now; it still has to {_rest(seen)}")
            return
        say(f"  {seen.applicant.name} asks to join; its words:")
        say(f"  {seen.applicant.words}")


def _rest(seen: InvitationSeen) -> str:
    """How a site that was voted in gets the roster."""
    if seen.admission:
        return "run `p2pfl consortium join` again."
    return "install what `p2pfl roster export --out FILE` writes."


def _moment(unix_s: int) -> str:
    return f"{minute_of(unix_s * 1_000_000)} UTC"
