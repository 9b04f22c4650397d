"""Who can be reached: told to the machines for studies, for logs and for the roster alike."""

from dataclasses import dataclass

from gossip.identifiers import SiteId


@dataclass(frozen=True, slots=True)
class Met:
    """A member of the roster can be reached."""

    site: SiteId


@dataclass(frozen=True, slots=True)
class Lost:
    """A member cannot be reached any longer: the last connection is gone."""

    site: SiteId
