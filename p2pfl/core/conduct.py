"""How members behave: what was refused of them, counted, shown and put on record sparingly."""

from collections import Counter, deque

from gossip.errors import PeerError, UnprovenAuthor
from gossip.identifiers import SiteId
from gossip.roster import Roster
from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core.history import History
from p2pfl.core.refusals import HeadKeyUnknown, NotTakingPart, Replayed

EXCUSED = (HeadKeyUnknown, NotTakingPart, Replayed, UnprovenAuthor)
"""What honest sites do, too: repairs repeat messages, and a revocation takes time to arrive, as do
a new key and a new roster."""

DETAIL_SIGNS_MAX = 200
FRESH_MAX = 64
"""Refusals kept for whoever asks for them; one event causes few."""


class Conduct:
    """Refusals by sender and violated rule. Bounded by the roster times the named rules."""

    def __init__(self, history: History) -> None:
        self.refused: Counter[tuple[SiteId, str]] = Counter(
            {(SiteId(site), rule): n for (site, rule), n in history.misbehaved.items()}
        )
        self._fresh: deque[tuple[SiteId, str]] = deque(maxlen=FRESH_MAX)

    def fresh(self) -> list[tuple[SiteId, str]]:
        """What was blamed on whom since this was asked last."""
        blamed = list(self._fresh)
        self._fresh.clear()
        return blamed

    def refuse(self, roster: Roster, site: SiteId, error: PeerError) -> list[fx.Effect]:
        """Something a member sent breaks a rule."""
        if isinstance(error, EXCUSED):
            self.refused[site, error.rule] += 1
            return []
        return self.count(roster, site, error.rule, str(error))

    def count(self, roster: Roster, site: SiteId, rule: str, detail: str) -> list[fx.Effect]:
        """Count a broken rule; on record at 1, 10, 100, … so that nobody can fill the log."""
        self.refused[site, rule] += 1
        self._fresh.append((site, rule))
        count = self.refused[site, rule]
        if count != 10 ** (len(str(count)) - 1):
            return []
        draft = kinds.PeerMisbehaved(site, rule, count).draft(drafts.NODE_ACTOR)
        fields = (("count", str(count)), ("rule", rule), ("site", site.hex()))
        sentence = f"refused what {name_of(roster, site)} sent ({rule}){_plain(detail)}"
        shown = fx.Show(None, fx.Happened("peer_refused", sentence, fields))
        return [shown, fx.Append(None, (draft,))]


def name_of(roster: Roster, site: SiteId) -> str:
    """What people call a site."""
    return roster.member(site).name if site in roster else site.hex()[:8]


def _plain(detail: str) -> str:
    """A peer's own words may stand in it: short, and without signs that steer a terminal."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in detail[:DETAIL_SIGNS_MAX])
    return f": {shown}" if shown else ""
