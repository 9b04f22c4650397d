"""What the node says when the members change, or when somebody wants them to."""

from gossip.card import Card
from gossip.identifiers import SiteId
from gossip.roster import Roster
from gossip.roster_messages import RosterHeld
from gossip.roster_votes import Statement
from p2pfl.core.conduct import name_of
from p2pfl.core.membership_terms import Show


def proposed(candidate: Roster) -> Show:
    """A candidate arrived."""
    digest = candidate.digest.hex()
    sentence = (
        "a change of the members is proposed: read it with `p2pfl roster status`, and if you "
        f"agree, `p2pfl roster sign {digest[:12]}`"
    )
    return Show("roster_proposed", sentence, (("digest", digest),))


def in_force(before: Roster, after: Roster, me: SiteId) -> Show:
    """Another version is in force."""
    what = "; ".join(differences(before, after))
    sentence = (
        f"roster version {after.version} is in force with {len(after.members)} members: {what}"
    )
    if me in before and me not in after:
        sentence += (
            ". THIS SITE WAS REMOVED: it takes part in nothing any more and talks to nobody; "
            "`p2pfl roster history` says by whose vote"
        )
    fields = (("version", str(after.version)), ("digest", after.digest.hex()))
    return Show("roster_in_force", sentence, fields)


def differences(before: Roster, after: Roster) -> list[str]:
    """Who joined, who left, who lost its identity and has another, whose card is new."""
    new = [card.name for card in after.members if card.site not in before]
    gone = [card.name for card in before.members if card.site not in after]
    stayed = [card for card in after.members if card.site in before]
    renewed = [card.name for card in stayed if before.member(card.site) != card]
    said = (
        ([name for name in new if name not in gone], "joined"),
        ([name for name in gone if name not in new], "left"),
        ([name for name in new if name in gone], "came back with another identity"),
        (renewed, "have new cards" if len(renewed) > 1 else "has a new card"),
    )
    return [f"{', '.join(names)} {verb}" for names, verb in said if names]


def other_roster(roster: Roster, sender: SiteId, held: RosterHeld) -> Show:
    """Two rosters with one version: more members lie than may, or somebody began anew."""
    sentence = (
        f"{name_of(roster, sender)} has another roster of version {held.version}: "
        f"{held.digest.hex()[:12]} there, {roster.digest.hex()[:12]} here; compare `p2pfl roster "
        "history` by telephone"
    )
    fields = (("digest", held.digest.hex()), ("site", sender.hex()))
    return Show("roster_differs", sentence, fields)


def said_twice(roster: Roster, statement: Statement) -> Show:
    """A member contradicts itself, provably."""
    sentence = (
        f"{name_of(roster, statement.site)} said two things in vote {statement.vote} on roster "
        f"version {statement.version}: the proof is kept in roster/conflicts"
    )
    return Show("roster_signed_twice", sentence, (("site", statement.site.hex()),))


def renewed(card: Card) -> Show:
    """A member has other keys or addresses."""
    where = " ".join(card.addresses) or "it only dials"
    sentence = f"{card.name} has a new card (serial {card.serial}): {where}"
    return Show("card_renewed", sentence, (("site", card.site.hex()),))
