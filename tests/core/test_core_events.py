"""Whatever happens, in whatever order: `handle` never raises, and never writes what audits find."""

from collections import deque
from collections.abc import Callable

import numpy as np
from core_attackers import Attacker, digest
from core_worlds import PRIVATE, Story, approval, begin, check_ledger
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.messages import Decision, HeadAdvertised, StudyProposal
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import History
from p2pfl.core.names import ModelHash, Round
from simulations.scenario import ScenarioTerms, dataset_of
from simulations.site import SimulatedSite

TERMS = ScenarioTerms(
    sites=4, rounds=3, consensus_rounds=1, sites_min=2, duration_s=600, privacy=PRIVATE
)
STEPS = st.lists(st.tuples(st.integers(0, 26), st.integers(0, 4), st.integers(0, 3)), max_size=120)


class Machine:
    """One core and its disk. Jobs end when, and as, the test wants."""

    def __init__(self) -> None:
        self.story: Story = begin(terms=TERMS)
        self.site: SimulatedSite = self.story.sites[0]
        self.others = [Attacker(self.story, site) for site in self.story.sites[1:]]
        self.now_s = self.story.world.now_s
        self.pending: deque[ev.Event] = deque()
        self.jobs: deque[fx.Effect] = deque()
        self.deadlines: set[Round] = set()
        self.story.approve(self.site)
        self.site.boot(self.story.world.roster, lambda: 0.5)
        self.handle(self.site.begin())

    def handle(self, event: ev.Event) -> None:
        for effect in self.site.core.handle(self.now_s, event):
            match effect:
                case fx.Append() | fx.HeadHeard() | fx.KeepProposal():
                    out = self.site.perform(effect, self.now_s)
                    self.pending.extend(o.event for o in out if o.event is not None)
                case fx.Train() | fx.Average() | fx.Obtain() | fx.ReleaseModel():
                    self.jobs.append(effect)
                case _:
                    pass

    def command(self, draft: object) -> None:
        entries = self.site.record(draft, now_s=self.now_s)  # type: ignore[arg-type]
        self.pending.append(ev.Appended(entries, self.site.ledger.note))

    def act(self, what: int, a: int, b: int) -> None:
        """One of everything that can happen, with small arguments."""
        study, round_ = self.story.study, Round(a)
        other = self.others[b % len(self.others)]
        site, model = other.site.id, ModelHash(digest("model", a, b))
        d = self.story.manifest.study.parameters
        timers = (ev.Retry(study), ev.HeadDue(), ev.Expiry(study))
        revoke_data = kinds.DatasetRevoked(dataset_of(self.story.seed, self.site), "withdrawn")
        actions: list[Callable[[], object]] = [
            lambda: self.says(other.update(a, value=float(b), entry_seq=a), other),
            lambda: self.says(other.update(a, value=float(b), inline=b""), other),
            lambda: self.says(other.update(a, entry_leaf=digest(b)), other),
            lambda: self.says(other.decision(list(Decision)[b], seq=a), other),
            lambda: self.says(other.decision(seq=a + 1), other),
            lambda: self.says(StudyProposal(self.story.manifest.raw[: 50 * a], b""), other),
            lambda: self.says(HeadAdvertised(other.head(a, digest(b))), other),
            lambda: self.handle(ev.Met(site)),
            lambda: self.handle(ev.Lost(site)),
            lambda: self.handle(ev.PeerRefused(site, "Garbled")),
            lambda: self.handle(ev.TrainingOpened(study, d + (a == 4), bytes(32), bytes(32 + b))),
            lambda: self.handle(ev.TrainingOpened(study, d, bytes(32), bytes(32))),
            lambda: self.handle(ev.TrainingFailed(study, "crashed", "it was killed")),
            lambda: self.handle(ev.Obtained(study, round_, site, model)),
            lambda: self.handle(ev.ObtainFailed(study, round_, site, model, "x", b % 2 == 0)),
            lambda: self.handle(ev.ModelReady(study, model)),
            lambda: self.handle(ev.AveragingFailed(study, round_, "no")),
            lambda: self.handle(ev.Scored(study, round_, None, 0.5)),
            lambda: self.handle(ev.ModelReleased(study, model)),
            lambda: self.deadline(round_),
            lambda: self.handle(ev.TimerFired(timers[b % 3])),
            lambda: self.wait(0.5 * a if b else 100.0 * a),
            lambda: self.command(kinds.StudyRevoked(study, "x").draft("data-owner")),
            self.approve,
            lambda: self.command(revoke_data.draft("data-owner")) if (a, b) == (4, 3) else None,
            self.deliver,
            self.finish_a_job,
        ]
        actions[what]()

    def approve(self) -> None:
        """The command that people use refuses data that was revoked."""
        history = History(self.site.ledger.entries)
        if not any(dataset.revoked for dataset in history.datasets.values()):
            self.command(approval(self.site, self.story.manifest, 1, PRIVATE))

    def deadline(self, round_: Round) -> None:
        """Once a round: the second one would come after more than a minute."""
        if round_ not in self.deadlines:
            self.deadlines.add(round_)
            self.handle(ev.TimerFired(ev.RoundDeadline(self.story.study, round_)))

    def says(self, message: object, other: Attacker) -> None:
        self.handle(ev.Delivered(other.site.id, message))  # type: ignore[arg-type]

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def deliver(self) -> None:
        if self.pending:
            self.handle(self.pending.popleft())

    def finish_a_job(self) -> None:
        if not self.jobs:
            return
        effect = self.jobs.popleft()
        for outgoing in self.site.perform(effect, self.now_s):
            if outgoing.event is not None:
                self.handle(outgoing.event)

    def settle(self) -> None:
        """Let everything that is under way end."""
        while self.pending or self.jobs:
            self.deliver()
            self.finish_a_job()


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_sequence_of_events_raises_or_breaks_a_rule_of_the_ledger(
    steps: list[tuple[int, int, int]],
) -> None:
    machine = Machine()
    for what, a, b in steps:
        machine.act(what, a, b)
    machine.settle()
    machine.story.world.now_s = machine.now_s
    check_ledger(machine.story, machine.site)


def test_long_random_lives_raise_nothing() -> None:
    """Sequences long enough to get through whole studies."""
    for seed in range(12):
        random = np.random.Generator(np.random.PCG64(seed))
        machine = Machine()
        for _ in range(600):
            # Mostly what makes a study go on, so that it gets somewhere.
            what = int(random.choice([0, 4, 11, 19, 25, 26, int(random.integers(27))]))
            machine.act(what, int(random.integers(5)), int(random.integers(4)))
        machine.settle()
        machine.story.world.now_s = machine.now_s
        check_ledger(machine.story, machine.site)
