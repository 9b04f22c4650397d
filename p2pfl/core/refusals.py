"""Why a neighbour's update is refused: one named error per rule.

These are values first (counted, recorded, shown) and exceptions second: only the functions of this
package raise them, and the state machine catches every one."""

from gossip.errors import PeerError
from p2pfl.core.effects import HeadHeard


class UpdateRefused(PeerError):
    """Base of every refusal; `rule` names it in the ledger and the counters."""


class UnknownStudy(UpdateRefused):
    """The study is not known here, or was never approved by this site."""


class NotTakingPart(UpdateRefused):
    """This site took part in the study and does not now; the sender may not know yet."""


class NotANeighbour(UpdateRefused):
    """The sender does not take part in the study, or is not averaged with here."""


class RoundOutOfRange(UpdateRefused):
    """The round does not exist in the study, or lies too far ahead to be kept."""


class StaleRound(UpdateRefused):
    """The round was averaged here before: a late or a replayed update."""


class Replayed(UpdateRefused):
    """The very same update was taken before."""


class Equivocation(UpdateRefused):
    """A second, different update for a round: neighbours may have been told different things."""


class ReusedEntry(UpdateRefused):
    """One entry of the sender's log is passed off as the release of two updates."""


class WrongSize(UpdateRefused):
    """The announced size is not that of this study's model."""


class WrongSteps(UpdateRefused):
    """It does not say how many steps were made where the study asks for it, or does elsewhere."""


class BadHead(UpdateRefused):
    """The signed head of the sender's log is missing, forged or too small to cover the entry."""


class HeadKeyUnknown(UpdateRefused):
    """The head is signed by no key that is known of the sender's log: it may just be replaced."""


class ForkedHead(BadHead):
    """Two signed heads of the sender's log have the same size and different roots."""

    def __init__(self, evidence: HeadHeard) -> None:
        self.evidence = evidence
        """The second of them, to be kept beside the first."""
        super().__init__(f"two histories of size {evidence.size}", actual=evidence.root.hex())


class ForkedLog(UpdateRefused):
    """The sender's log is proved to have two histories: nothing of it is believed any more."""


class BadManifest(UpdateRefused):
    """A proposed manifest breaks a rule of manifests."""


class ExpiredProposal(UpdateRefused):
    """A proposed study had expired when it came."""


class TooManyProposals(UpdateRefused):
    """More proposals of one site wait for a decision here than are kept."""


class NotTheProposer(UpdateRefused):
    """Somebody else than its proposer tries to steer or pause a study."""


class OutsideRange(UpdateRefused):
    """A steering of what the manifest lets nobody steer, or to a value outside its range; a pause
    from a round on that the study does not have."""


class TooManyWords(UpdateRefused):
    """A proposer pauses and resumes one study more often than a site puts on record."""


class NotInvited(UpdateRefused):
    """A decision about a study whose manifest does not name the sender."""
