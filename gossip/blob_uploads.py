"""Who is served at a time: so many streams in all, and nobody keeps the others' share of them.

A stream costs whoever opens it nothing, however slowly it asks; a site that has none, or fewer,
gets a place of whoever has the most. Knows sites and streams, not the network.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gossip.identifiers import SiteId


@dataclass(slots=True, eq=False)
class Upload:
    """One stream that is served. give_up: ends it; called at most once."""

    site: SiteId
    give_up: Callable[[], None]
    chunks: int = 0
    """Served so far."""


class Uploads:
    """What is under way. uploads_max: streams of all sites."""

    def __init__(self, uploads_max: int) -> None:
        self._max = uploads_max
        self._under_way: list[Upload] = []

    def begin(self, site: SiteId, give_up: Callable[[], None]) -> Upload | None:
        """A place for one more stream of a site; None if all are taken, and shared out evenly."""
        if len(self._under_way) >= self._max and not self._make_place(site):
            return None
        upload = Upload(site, give_up)
        self._under_way.append(upload)
        return upload

    def end(self, upload: Upload) -> None:
        """It is over; one that had to give up its place has none any more."""
        if upload in self._under_way:
            self._under_way.remove(upload)

    def _make_place(self, site: SiteId) -> bool:
        """Of the site with the most, the stream of which the least would be lost."""
        held = Counter(upload.site for upload in self._under_way)
        busiest, most = held.most_common(1)[0]
        if most < held[site] + 2:
            return False
        of_busiest = (upload for upload in self._under_way if upload.site == busiest)
        leaving = min(of_busiest, key=lambda upload: upload.chunks)
        self._under_way.remove(leaving)
        leaving.give_up()
        return True
