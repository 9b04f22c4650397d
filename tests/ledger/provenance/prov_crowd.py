"""A large study as one of many sites tells it: for pages and exports that have to stay readable."""

from random import Random

from prov_stories import DAY_US, ME, MICRO, START_US, Story, digest
from prov_teller import TERMS, Plan, Teller, approve, average, finish, step

from ledger.provenance.kinds import (
    ClockAnomaly,
    NodeOfflineStart,
    PeerMisbehaved,
    RosterChanged,
    StudyProposed,
    StudySteered,
    UpdateReceived,
)

TOWNS = ("Aarau", "Basel", "Bern", "Chur", "Davos", "Genf", "Glarus", "Lausanne", "Luzern")
HOUR_US = DAY_US // 24


def crowd_names(sites: int) -> dict[bytes, str]:
    """Names of sites, the own one first."""
    peers = [digest("crowd", number) for number in range(1, sites)]
    named = {
        peer: f"{TOWNS[number % len(TOWNS)]} hospital {number + 1}"
        for number, peer in enumerate(peers)
    }
    return {ME: "University Hospital Basel", **named}


def crowd_story(sites: int, rounds: int) -> Story:
    """Training with everybody as neighbour; some updates late, refused or limited."""
    random = Random(5)  # noqa: S311 -- a seed that repeats, not a secret
    teller = Teller(random)
    peers = tuple(site for site in crowd_names(sites) if site != ME)
    teller.peer_seqs = dict.fromkeys(peers, 0)
    teller.tell(RosterChanged(1, digest("roster"), sites))
    ds = teller.register(1, 60 * MICRO)
    study = digest("study", 1)
    teller.now_us += 3 * DAY_US
    teller.tell(StudyProposed(study, peers[0]))
    teller.now_us += 2 * DAY_US
    approval = approve(teller, ds, study, TERMS, rounds, START_US + 400 * DAY_US)
    assert approval is not None
    plan = Plan(approval, rounds, 1, peers, digest("initial"))
    for round_ in range(rounds + 1):
        teller.now_us += 3 * HOUR_US
        _round(teller, plan, round_)
        if round_ == rounds // 2:
            changes = {"learning_rate": "0.05"}
            teller.tell(StudySteered(study, round_ + 1, digest("message"), changes, 3))
            teller.tell(ClockAnomaly(-1_500_000))
            teller.tell(NodeOfflineStart(sites - 1))
            teller.tell(PeerMisbehaved(peers[2], "BadSignature", 10))
    finish(teller, plan, rounds)
    return teller.story()


def _round(teller: Teller, plan: Plan, round_: int) -> None:
    random = teller.random
    own = step(teller, plan, round_)
    assert own is not None
    received: list[UpdateReceived] = []
    for number, peer in enumerate(plan.peers):
        away = number == 4 and 60 < round_ < 95
        sort = random.choices(("accepted", "rejected", "silent"), (97, 1, 2))[0]
        if not away and sort != "silent":
            update = teller.receive(plan.study, round_, peer, sort)
            received += [update] if sort == "accepted" else []
    average(teller, plan, round_, own, received)
