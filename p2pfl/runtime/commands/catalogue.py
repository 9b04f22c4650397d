"""Every command that changes a home, by name: one list for the CLI and the control socket.

Whoever calls `perform` does not need to know whether a node runs: if one does, the command goes
to it, because it holds the ledger; if not, this process locks the home and does it itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from p2pfl.runtime.commands import (
    clock,
    datasets,
    decisions,
    founding,
    inviting,
    ledger_changing,
    pausing,
    roster_installing,
    roster_seen,
    roster_voting,
    spending,
    steering,
    studies,
    transport_keys,
)
from p2pfl.runtime.commands.failures import as_operator_error
from p2pfl.runtime.commands.opening import Clock, RandomBytes, Site, open_site
from p2pfl.runtime.control_call import call_node, node_is_running
from p2pfl.runtime.errors import EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json, from_json, to_json

A = TypeVar("A")
R = TypeVar("R")

DEADLINE_S = 600.0
"""Approving computes ε tables, which may take minutes for sampled studies."""


@dataclass(frozen=True, slots=True)
class Command(Generic[A, R]):
    """A command's name on the socket, its argument and result types, and what it does."""

    name: str
    arguments: type[A]
    result: type[R]
    run: Callable[[Site, A], R]


ROSTER_SIGN = Command(
    "roster sign", roster_installing.RosterFile, founding.RosterSeen, roster_installing.roster_sign
)
ROSTER_INSTALL = Command(
    "roster install",
    roster_installing.RosterCopies,
    founding.RosterSeen,
    roster_installing.roster_install,
)
ROSTER_STATUS = Command(
    "roster status", roster_voting.RosterStatus, roster_seen.VoteSeen, roster_voting.roster_status
)
ROSTER_PROPOSE = Command(
    "roster propose",
    roster_voting.RosterPropose,
    roster_seen.VoteSeen,
    roster_voting.roster_propose,
)
ROSTER_SIGN_PROPOSAL = Command(
    "roster sign proposal",
    roster_voting.SignProposal,
    roster_seen.VoteSeen,
    roster_voting.sign_proposal,
)
ROSTER_VOTE_AGAIN = Command(
    "roster vote-again", roster_voting.VoteAgain, roster_seen.VoteSeen, roster_voting.vote_again
)
ROSTER_SET_ADDRESS = Command(
    "roster set-address",
    roster_voting.SetAddress,
    roster_voting.AddressSet,
    roster_voting.set_address,
)
ROSTER_TAKE_CARD = Command(
    "roster take-card",
    transport_keys.TakeCard,
    transport_keys.CardTaken,
    transport_keys.take_card,
)
CONSORTIUM_INVITE = Command("consortium invite", inviting.Invite, inviting.Invited, inviting.invite)
CONSORTIUM_WITHDRAW = Command(
    "consortium withdraw", inviting.Withdraw, inviting.InvitationSeen, inviting.withdraw
)
CONSORTIUM_ACCEPT = Command(
    "consortium accept",
    inviting.AcceptApplicant,
    roster_seen.VoteSeen,
    inviting.accept_applicant,
)
DATA_ADD = Command("data add", datasets.DataAdd, datasets.DatasetSeen, datasets.data_add)
DATA_REVOKE = Command(
    "data revoke", datasets.DataRevoke, datasets.DatasetSeen, datasets.data_revoke
)
DATA_ACCEPT_SPENDING = Command(
    "data accept-spending",
    spending.AcceptSpending,
    spending.SpendingAccepted,
    spending.accept_spending,
)
STUDY_PROPOSE = Command(
    "study propose", studies.StudyPropose, studies.StudyKept, studies.study_propose
)
STUDY_IMPORT = Command("study import", studies.StudyFile, studies.StudyKept, studies.study_import)
STUDY_APPROVE = Command(
    "study approve", decisions.StudyApprove, decisions.Decided, decisions.study_approve
)
STUDY_REFUSE = Command(
    "study refuse", decisions.StudyDecide, decisions.Decided, decisions.study_refuse
)
STUDY_REVOKE = Command(
    "study revoke", decisions.StudyDecide, decisions.Decided, decisions.study_revoke
)
STUDY_AWAY = Command("study away", decisions.StudyDecide, decisions.Decided, decisions.study_away)
STUDY_BACK = Command("study back", decisions.StudyDecide, decisions.Decided, decisions.study_back)
STUDY_STEER = Command("study steer", steering.StudySteer, steering.Steered, steering.study_steer)
STUDY_PAUSE = Command("study pause", pausing.StudyPause, pausing.PauseSeen, pausing.study_pause)
STUDY_STOP = Command("study stop", pausing.StudyPause, pausing.PauseSeen, pausing.study_stop)
STUDY_RESUME = Command("study resume", pausing.StudyPause, pausing.PauseSeen, pausing.study_resume)
LEDGER_ACCEPT_CLOCK = Command(
    "ledger accept-clock", clock.ClockAccept, clock.ClockAccepted, clock.accept_clock
)
LEDGER_ROTATE_KEY = Command(
    "ledger rotate-key",
    ledger_changing.RotateKey,
    ledger_changing.KeyRotated,
    ledger_changing.rotate_key,
)
LEDGER_REDACT = Command(
    "ledger redact", ledger_changing.Redact, ledger_changing.Redacted, ledger_changing.redact
)

_ALL = (
    LEDGER_ACCEPT_CLOCK,
    LEDGER_ROTATE_KEY,
    LEDGER_REDACT,
    ROSTER_SIGN,
    ROSTER_INSTALL,
    ROSTER_STATUS,
    ROSTER_PROPOSE,
    ROSTER_SIGN_PROPOSAL,
    ROSTER_VOTE_AGAIN,
    ROSTER_SET_ADDRESS,
    ROSTER_TAKE_CARD,
    CONSORTIUM_INVITE,
    CONSORTIUM_WITHDRAW,
    CONSORTIUM_ACCEPT,
    DATA_ADD,
    DATA_REVOKE,
    DATA_ACCEPT_SPENDING,
    STUDY_PROPOSE,
    STUDY_IMPORT,
    STUDY_APPROVE,
    STUDY_REFUSE,
    STUDY_REVOKE,
    STUDY_AWAY,
    STUDY_BACK,
    STUDY_STEER,
    STUDY_PAUSE,
    STUDY_STOP,
    STUDY_RESUME,
)
COMMANDS: Mapping[str, Command[object, object]] = {
    command.name: cast(Command[object, object], command) for command in _ALL
}


def perform(
    home: Home, command: Command[A, R], arguments: A, *, now_us: Clock, random_bytes: RandomBytes
) -> R:
    """Have the command done, by the running node or right here. Paths must be absolute.

    Raises OperatorError for everything a person can act upon; anything else is our bug.
    """
    try:
        if node_is_running(home):
            request = to_json(arguments)
            assert isinstance(request, dict), "arguments are dataclasses"
            answer = call_node(home, command.name, request, timeout_s=DEADLINE_S)
            return from_json(command.result, answer)
        with open_site(
            home, purpose=command.name, now_us=now_us, random_bytes=random_bytes
        ) as site:
            return command.run(site, arguments)
    except Exception as error:
        known = as_operator_error(error)
        if known is None:
            raise
        raise known from error


def perform_request(site: Site, name: str, arguments: Mapping[str, Json]) -> Json:
    """Do what came over the control socket. Blocking: the node calls it in a thread of its own,
    one command at a time.

    Raises OperatorError for everything a person can act upon; anything else is our bug.
    """
    command = COMMANDS.get(name)
    if command is None:
        raise OperatorError(
            f'The running node knows no command "{name[:40]}".',
            fix="Use the p2pfl command of the same version as the node.",
            exit_code=EXIT_USAGE,
        )
    try:
        return to_json(command.run(site, from_json(command.arguments, dict(arguments))))
    except Exception as error:
        known = as_operator_error(error)
        if known is None:
            raise
        raise known from error
