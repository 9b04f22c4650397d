"""Who can be reached: told to the machines for logs and for the roster alike."""

from dataclasses import dataclass

from gossip.identifiers import SiteId


@dataclass(frozen=True, slots=True)
class Met:
    """A member can be reached."""

    site: SiteId


@dataclass(frozen=True, slots=True)
class Lost:
    """A member cannot be reached any longer."""

    site: SiteId
