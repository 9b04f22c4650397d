"""`p2pfl roster`: the votes on who is a member, and where members are dialled."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.context import (
    COMPARE,
    JsonOption,
    opened_home,
    perform,
    say,
    say_json,
    say_wrapped,
    short,
)

if TYPE_CHECKING:
    from p2pfl.runtime.commands.roster_seen import ProposalSeen, VoteSeen
    from p2pfl.runtime.home import Home

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
CardArgument = Annotated[Path, typer.Argument(help="The card file of that site.")]
SiteArgument = Annotated[
    str, typer.Argument(help="A member's name, or how its fingerprint begins.")
]


def propose_add(context: typer.Context, card: CardArgument, json: JsonOption = False) -> None:
    """Propose a new member, and sign the proposal; compare its fingerprint by telephone first."""
    _propose(context, remove=(), add=(card,), as_json=json)


def propose_remove(context: typer.Context, site: SiteArgument, json: JsonOption = False) -> None:
    """Propose that a member leaves, and sign the proposal."""
    _propose(context, remove=(site,), add=(), as_json=json)


def propose_replace(
    context: typer.Context, site: SiteArgument, card: CardArgument, json: JsonOption = False
) -> None:
    """Propose that a member goes on with another card, after a lost identity or ledger."""
    _propose(context, remove=(site,), add=(card,), as_json=json)


def status(context: typer.Context, json: JsonOption = False) -> None:
    """The vote on the next roster: what is proposed, who signed, what comes next."""
    seen = _status(opened_home(context))
    say_json(seen) if json else tell_vote(seen)


def history(context: typer.Context, json: JsonOption = False) -> None:
    """Every version of the roster that this home knows, and what changed."""
    seen = _status(opened_home(context))
    if json:
        say_json(seen.history)
        return
    for version in seen.history:
        say(f"version {version.version}, {len(version.members)} members, digest")
        say(version.digest.hex())
        for line in version.changes or (", ".join(version.members),):
            say_wrapped(f"  {line}")
        if version.by:
            say_wrapped(f"  by vote of {', '.join(version.by)}")


def vote_again(context: typer.Context, yes: YesOption = False, json: JsonOption = False) -> None:
    """Close the vote that is open, where no proposal can win; enough such words open the next."""
    from p2pfl.runtime.commands import catalogue, roster_voting

    home = opened_home(context)
    vote = _status(home).vote
    question = f"Close vote {vote}? This site then signs nothing more in it."
    require_consent(question, is_agreed=yes or json, otherwise="The vote was not closed.")
    seen = perform(home, catalogue.ROSTER_VOTE_AGAIN, roster_voting.VoteAgain())
    say_json(seen) if json else tell_vote(seen)


def sign_proposal(home: Home, digest: str, *, is_agreed: bool, as_json: bool) -> None:
    """Show a proposal, ask, and sign it."""
    from p2pfl.runtime.commands import catalogue, roster_voting

    before = _status(home)
    known = [proposal.digest for proposal in before.proposals]
    meant = roster_voting.find_proposal(known, digest)
    if not as_json:
        say_wrapped(f"{before.consortium}, version {before.version} → {before.version + 1}:")
        proposal = next(p for p in before.proposals if p.digest == meant)
        _tell_proposal(proposal, before)
        if any(change.startswith("adds ") for change in proposal.changes):
            say_wrapped(COMPARE)
    require_consent("Sign this?", is_agreed=is_agreed or as_json)
    request = roster_voting.SignProposal(meant.hex())
    seen = perform(home, catalogue.ROSTER_SIGN_PROPOSAL, request)
    say_json(seen) if as_json else tell_vote(seen)


def set_address(
    context: typer.Context,
    addresses: Annotated[
        list[str] | None, typer.Argument(help="host:port, several if it has several.")
    ] = None,
    dial_only: Annotated[
        bool, typer.Option("--dial-only", help="Nobody can dial this site.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Tell every member where this site is dialled from now on; no vote is needed."""
    from p2pfl.runtime.commands import catalogue, roster_voting
    from p2pfl.runtime.errors import EXIT_USAGE, OperatorError

    if bool(addresses) == dial_only:
        raise OperatorError(
            "Say where this site is dialled.",
            fix="Give host:port, or --dial-only if nobody can dial it.",
            exit_code=EXIT_USAGE,
        )
    home = opened_home(context)
    request = roster_voting.SetAddress(tuple(addresses or ()))
    done = perform(home, catalogue.ROSTER_SET_ADDRESS, request)
    if json:
        say_json(done)
        return
    say_wrapped(f"Card with serial {done.serial}: {' '.join(done.addresses) or 'dials only'}")
    say_wrapped(
        "Every member learns it from this site's node as soon as they meet. Where the node itself "
        "listens is `listen` in config.toml; it takes effect at the next start."
    )


def export(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    json: JsonOption = False,
) -> None:
    """Write the chain of rosters to a file, for a new member: it runs `p2pfl roster install`."""
    from p2pfl.runtime.commands import roster_voting

    done = roster_voting.roster_export(opened_home(context), out.absolute())
    if json:
        say_json(done)
        return
    say(f"version {done.version}, digest")
    say(done.digest.hex())
    say_wrapped(
        f"Written to {out}. Whoever installs it should hear this digest by telephone, from a "
        "member they know."
    )


def take_card(
    context: typer.Context,
    card: Annotated[Path, typer.Argument(help="A member's newer card file.")],
    json: JsonOption = False,
) -> None:
    """Take over a member's newer card from a file, after it replaced its transport key."""
    from p2pfl.runtime.commands import catalogue, transport_keys

    request = transport_keys.TakeCard(card.absolute())
    done = perform(opened_home(context), catalogue.ROSTER_TAKE_CARD, request)
    if json:
        say_json(done)
        return
    say_wrapped(
        f"Card of {done.name} with serial {done.serial} is on record; this site's node tells it "
        "to the other members."
    )


def _propose(
    context: typer.Context, *, remove: tuple[str, ...], add: tuple[Path, ...], as_json: bool
) -> None:
    from p2pfl.runtime.commands import catalogue, roster_voting

    request = roster_voting.RosterPropose(remove, tuple(path.absolute() for path in add))
    seen = perform(opened_home(context), catalogue.ROSTER_PROPOSE, request)
    say_json(seen) if as_json else tell_vote(seen)


def _status(home: Home) -> VoteSeen:
    from p2pfl.runtime.commands import catalogue, roster_voting

    return perform(home, catalogue.ROSTER_STATUS, roster_voting.RosterStatus())


def require_consent(
    question: str, *, is_agreed: bool, otherwise: str = "Nothing was signed."
) -> None:
    """Ask at a terminal. Raises OperatorError where nobody answers yes."""
    from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError

    can_ask = sys.stdin.isatty()
    if is_agreed or (can_ask and typer.confirm(question)):
        return
    raise OperatorError(
        otherwise,
        fix="Run it again if you agree later."
        if can_ask
        else "Run it at a terminal, or say --yes.",
        exit_code=EXIT_REFUSED,
    )


def tell_vote(seen: VoteSeen) -> None:
    say(f"{seen.consortium}, version {seen.version} with {seen.members} members is in force")
    if seen.proposals:
        say(f"vote {seen.vote} on version {seen.version + 1}, {seen.needed} signatures needed")
    for proposal in seen.proposals:
        _tell_proposal(proposal, seen)
    if seen.closed:
        say_wrapped(f"vote {seen.vote} closed by {', '.join(seen.closed)}")
    say_wrapped(seen.next)


def _tell_proposal(proposal: ProposalSeen, seen: VoteSeen) -> None:
    own = "  (signed here)" if seen.own_vote == proposal.digest else ""
    say(f"{short(proposal.digest)}{own}")
    for line in proposal.changes:
        say_wrapped(f"  {line}")
    say_wrapped(f"  signed by {', '.join(proposal.signed) or 'nobody in this vote'}")
    if proposal.accepted:
        say_wrapped(f"  confirmed by the nodes of {', '.join(proposal.accepted)}")
