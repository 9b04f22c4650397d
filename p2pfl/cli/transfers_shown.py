"""Models on their way to this site, for `study watch`: from whom, bytes of bytes, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from p2pfl.runtime.home import Home

ANSWER_S: Final = 2.0
LINE_EVERY_S: Final = 10.0
"""Where lines are printed below each other; a bar moves every second."""
_KEPT: Final = 0.6
"""Share of the rate that a second's measurement leaves as it was."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One model on its way. bytes_per_s: 0 until two looks were made."""

    name: str
    have_bytes: int
    of_bytes: int
    bytes_per_s: float

    @property
    def words(self) -> str:
        """One line, less than 80 columns for names of sites."""
        done = f"{self.have_bytes / 1e6:.1f} of {self.of_bytes / 1e6:.1f} MB"
        rate = f", {self.bytes_per_s / 1e6:.1f} MB/s" if self.bytes_per_s else ""
        return f"fetching from {self.name}: {done}{rate}"


class Rates:
    """Makes rates of what the node says from time to time."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int], tuple[float, int, float]] = {}

    def look(self, now_s: float, told: Sequence[Mapping[str, Any]]) -> list[Fetched]:
        """told: the node's transfers of the study; now_s: of a clock for durations."""
        seen: dict[tuple[str, int], tuple[float, int, float]] = {}
        found = []
        for one in told:
            key = (str(one["name"]), int(one["of_bytes"]))
            have = int(one["bytes"])
            before_s, had, rate = self._last.get(key, (now_s, have, 0.0))
            if now_s > before_s and have >= had:
                measured = (have - had) / (now_s - before_s)
                rate = _KEPT * rate + (1.0 - _KEPT) * measured if rate else measured
            elif have < had:  # another model of the same size
                rate = 0.0
            seen[key] = (now_s, have, rate)
            found.append(Fetched(key[0], have, key[1], rate))
        self._last = seen
        return found


class Looker:
    """Asks the node what it fetches for one study."""

    def __init__(self, home: Home, study: str, clock_s: Callable[[], float]) -> None:
        self._home = home
        self._study = study
        self._clock_s = clock_s
        self._rates = Rates()

    def look(self) -> list[Fetched]:
        """What is on its way now; nothing where no node answers: the watch itself notices that."""
        from p2pfl.runtime.control_call import call_node
        from p2pfl.runtime.errors import OperatorError
        from p2pfl.runtime.status_command import STATUS_COMMAND

        try:
            told = call_node(self._home, STATUS_COMMAND, {}, timeout_s=ANSWER_S)
        except (OperatorError, OSError):
            return []
        transfers = told.get("transfers") if isinstance(told, dict) else None
        listed = transfers if isinstance(transfers, list) else []
        own = [x for x in listed if isinstance(x, dict) and x.get("study") == self._study]
        return self._rates.look(self._clock_s(), own)


class Lines:
    """Says what is fetched where no bar can move: a line every ten seconds."""

    def __init__(self, say: Callable[[Fetched], None]) -> None:
        self._say = say
        self._said_s = float("-inf")

    def show(self, now_s: float, fetched: Sequence[Fetched]) -> None:
        """Print it, unless it was printed a moment ago, or has just begun."""
        slow = [one for one in fetched if one.bytes_per_s]
        if slow and now_s - self._said_s >= LINE_EVERY_S:
            self._said_s = now_s
            for one in slow:
                self._say(one)
