"""What proposers said of their studies: the newest word of each, by whoever says so.

A word may overtake the proposal it is about. It is kept then, and judged when that has come."""

from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from gossip.identifiers import SiteId
from gossip.messages import StudySteered
from gossip.pause_messages import StudyPaused
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import StudyId
from p2pfl.core.participants import Proposal
from p2pfl.core.refusals import Equivocation, NotTheProposer, OutsideRange

UNKNOWN_STUDIES_MAX: Final = 32
"""Words kept per site of studies whose manifest has not arrived yet."""

M = TypeVar("M", StudySteered, StudyPaused)


class NewestWords(Generic[M]):
    """The newest word of every study and site; its proposer's alone counts."""

    def __init__(self, judge: Callable[[Manifest, M], None]) -> None:
        """judge: whether the manifest lets its proposer say so; raises OutsideRange."""
        self._judge: Callable[[Manifest, M], None] = judge
        self._newest: dict[tuple[StudyId, SiteId], M] = {}

    def __len__(self) -> int:
        """How many are kept, of all studies and sites."""
        return len(self._newest)

    def take(self, proposals: Mapping[StudyId, Proposal], sender: SiteId, message: M) -> bool:
        """Note a word; False if it is no newer than what is known.

        Raises NotTheProposer, OutsideRange, Equivocation."""
        place = (StudyId(message.study), sender)
        proposal = proposals.get(place[0])
        if proposal is not None and proposal.proposer:
            check_sender(proposal, sender)
            self._judge(proposal.manifest, message)
        known = self._newest.get(place)
        if known is not None and message.entry_seq <= known.entry_seq:
            if message.entry_seq == known.entry_seq and message != known:
                raise Equivocation(f"entry {known.entry_seq} stands for two words on one study")
            return False
        self._newest.pop(place, None)
        self._newest[place] = message
        self._forget_unknown(sender, proposals)
        return True

    def of(self, proposal: Proposal) -> M | None:
        """What the proposer said last, if it may say so.

        One that came before its proposal could not be judged then, and is now."""
        found = self._newest.get((StudyId(proposal.manifest.study_id), proposal.proposer))
        if found is None:
            return None
        try:
            self._judge(proposal.manifest, found)
        except OutsideRange:
            return None
        return found

    def _forget_unknown(self, sender: SiteId, proposals: Mapping[StudyId, Proposal]) -> None:
        """The newest stay: a proposal follows the word that overtook it closely, or never."""
        others = [
            place
            for place in self._newest
            if place[1] == sender
            and (place[0] not in proposals or proposals[place[0]].proposer != sender)
        ]
        for place in others[:-UNKNOWN_STUDIES_MAX]:
            del self._newest[place]


def check_sender(proposal: Proposal, sender: SiteId) -> None:
    """Raises NotTheProposer."""
    if sender != proposal.proposer:
        raise NotTheProposer(
            "only the study's proposer steers, pauses, resumes or stops it",
            expected=proposal.proposer.hex()[:16],
            actual=sender.hex()[:16],
        )
