"""How often a site shows its own head: in a second where four are members, seldom where many are.

Each head goes to every member, who verifies, stores and cosigns it: what one commit costs a
consortium grows with its members' square. Heads that come sooner wait for the next turn; only the
newest is shown, and it covers them all. No release waits for a cosignature.

Knows the count of members alone."""

from typing import Final

HEAD_S: Final = 1.0
SITES_QUICK: Final = 4
"""So many members can have every head each second."""
PER_SITE_S: Final = 0.5
HEAD_S_MAX: Final = 60.0


def head_pace_s(sites: int) -> float:
    """Seconds between two heads of one log, for a consortium of so many members.

    >>> head_pace_s(2), head_pace_s(4), head_pace_s(10), head_pace_s(1_000)
    (1.0, 1.0, 4.0, 60.0)
    """
    return min(HEAD_S_MAX, HEAD_S + PER_SITE_S * max(0, sites - SITES_QUICK))
