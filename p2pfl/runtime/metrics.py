"""What monitoring is told of a running node: numbers in Prometheus' text format.

Counts, sizes and times only: never keys, patients, scores or losses. Names of neighbours and
studies are labels; a refused rule of a former member keeps its short id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from gossip.identifiers import SiteId
from gossip.transport import Link
from p2pfl.core import effects as fx
from p2pfl.core.conduct import name_of
from p2pfl.core.names import StudyId
from p2pfl.core.phases import Phase
from p2pfl.core.planned import rounds_planned
from p2pfl.runtime.driver import Driver
from p2pfl.runtime.node_status import queues
from p2pfl.runtime.surroundings import Observer

SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)
"""Bounds of the histogram's buckets: rounds take from hundredths of a second to an hour."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A moment of the node: what the network thread and the transport told."""

    links: Mapping[SiteId, Link]
    turned_away: Mapping[str, int]


class RoundTimes:
    """An observer that also measures: how long the phases of each round took, and ε spent."""

    def __init__(self, observer: Observer, registry: CollectorRegistry) -> None:
        self._observer = observer
        self._seconds = Histogram(
            "p2pfl_round_phase_seconds",
            "How long a phase of a round took.",
            ("study", "phase"),
            buckets=SECONDS,
            registry=registry,
        )
        self.spent: dict[StudyId, tuple[float, float]] = {}
        """ε spent on the study's dataset, and its cap, as of the last round."""
        self.waits: Counter[tuple[StudyId, str]] = Counter()
        """How often a study had to wait, by what for."""

    def show(self, study: StudyId | None, notice: fx.Notice) -> None:
        """Pass a notice on; of a finished round, keep its times."""
        if study is not None and isinstance(notice, fx.RoundDone):
            for phase, seconds in asdict(notice.phases_s).items():
                self._seconds.labels(study.hex(), phase).observe(seconds)
            self.spent[study] = (notice.eps_total_u / 1e6, notice.cap_u / 1e6)
        elif study is not None and isinstance(notice, fx.Waiting):
            self.waits[study, notice.code] += 1
        self._observer.show(study, notice)

    def refused(self, address_or_site: str, reason: str) -> None:
        """Pass it on: the transport counts by itself."""
        self._observer.refused(address_or_site, reason)

    def bug(self, error: BaseException) -> None:
        """Pass it on."""
        self._observer.bug(error)


class NodeMetrics:
    """Makes the text. Used on the node's loop."""

    def __init__(self, registry: CollectorRegistry, times: RoundTimes, driver: Driver) -> None:
        self._registry = registry
        self._times = times
        self._driver = driver
        self._seen = Seen({}, {})
        ProcessCollector(registry=registry)
        registry.register(self)

    def text(self, seen: Seen) -> bytes:
        """All numbers as of now."""
        self._seen = seen
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: what there is depends on members and studies."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        yield from self._node()
        yield from self._lines()
        yield from self._refusals()
        yield from self._studies()

    def _node(self) -> Iterator[Metric]:
        core, counts = self._driver.core, self._driver.exchange.dissemination.counts
        me = core.roster.member(core.me) if core.me in core.roster else None
        yield InfoMetricFamily(
            "p2pfl_node",
            "Which site this is.",
            value={
                "site": core.me.hex(),
                "name": me.name if me is not None else "",
                "consortium": core.roster.consortium,
            },
        )
        yield _gauge("p2pfl_members", "Sites on the roster.", len(core.roster.members))
        yield _gauge("p2pfl_roster_version", "Version of the roster.", core.roster.version)
        yield _gauge("p2pfl_ledger_entries", "Entries of the own ledger.", core.history.size)
        read_only = int(bool(core.read_only_reason))
        yield _gauge("p2pfl_read_only", "1 if the own log needs people's decision.", read_only)
        yield _gauge("p2pfl_forked_logs", "Members with two histories.", len(core.accused))
        running = len(self._driver.jobs.training_pids())
        yield _gauge("p2pfl_training_processes", "Training processes alive.", running)
        waiting = GaugeMetricFamily("p2pfl_queue_length", "What waits inside.", labels=["queue"])
        for queue, length in queues(self._driver).items():
            waiting.add_metric([queue], length)
        yield waiting
        messages = CounterMetricFamily("p2pfl_messages", "Messages by outcome.", labels=["outcome"])
        for outcome, number in asdict(counts).items():
            messages.add_metric([outcome], number)
        messages.add_metric(["unheard"], self._driver.exchange.unheard)
        yield messages

    def _lines(self) -> Iterator[Metric]:
        core = self._driver.core
        connected = GaugeMetricFamily(
            "p2pfl_neighbour_connected", "1 while there is a connection.", labels=["neighbour"]
        )
        for card in core.roster.members:
            if card.site != core.me:
                connected.add_metric([card.name], int(card.site in core.connected))
        yield connected
        trips = GaugeMetricFamily(
            "p2pfl_neighbour_round_trip_seconds",
            "Round trip of the connection as the kernel estimates it.",
            labels=["neighbour"],
        )
        numbers = (
            _counter("p2pfl_neighbour_sent_bytes", "Bytes sent."),
            _counter("p2pfl_neighbour_received_bytes", "Bytes received."),
            _counter("p2pfl_neighbour_resent_packets", "Packets sent again."),
        )
        waiting = GaugeMetricFamily(
            "p2pfl_neighbour_queued", "What waits to be sent.", labels=["neighbour", "unit"]
        )
        for site, link in self._seen.links.items():
            name = name_of(core.roster, site)
            if link.round_trip_s is not None:
                trips.add_metric([name], link.round_trip_s)
            waiting.add_metric([name, "messages"], link.queued_frames)
            waiting.add_metric([name, "bytes"], link.queued_bytes)
            values = (link.sent_bytes, link.received_bytes, link.resent_packets)
            for family, value in zip(numbers, values, strict=True):
                family.add_metric([name], value)
        yield from (trips, *numbers, waiting)

    def _refusals(self) -> Iterator[Metric]:
        core = self._driver.core
        refused = CounterMetricFamily(
            "p2pfl_refused",
            "What members sent and was refused, also before the last start.",
            labels=["neighbour", "rule"],
        )
        for (site, rule), number in core.refused.items():
            refused.add_metric([name_of(core.roster, site), rule], number)
        yield refused
        away = CounterMetricFamily(
            "p2pfl_turned_away", "Refused before it was a message.", labels=["rule"]
        )
        for rule, number in self._seen.turned_away.items():
            away.add_metric([rule], number)
        yield away

    def _studies(self) -> Iterator[Metric]:
        labels = ["study", "name"]
        rounds = GaugeMetricFamily("p2pfl_study_round", "Rounds that are over.", labels=labels)
        planned = GaugeMetricFamily("p2pfl_study_rounds", "Rounds planned.", labels=labels)
        sites = GaugeMetricFamily("p2pfl_study_sites", "Sites that take part.", labels=labels)
        phases = GaugeMetricFamily(
            "p2pfl_study_phase", "1 for the present phase.", labels=["study", "phase"]
        )
        for study, run in self._driver.core.runs.items():
            names = [study.hex(), run.manifest.study.name]
            rounds.add_metric(names, int(run.round))
            planned.add_metric(names, rounds_planned(run.manifest, run.past).total)
            sites.add_metric(names, len(run.gathering.buckets))
            for phase in Phase:
                phases.add_metric([study.hex(), phase.value], int(phase is run.phase))
        yield from (rounds, planned, sites, phases)
        waits = CounterMetricFamily(
            "p2pfl_study_waits", "How often a study had to wait.", labels=["study", "code"]
        )
        for (study, code), number in self._times.waits.items():
            waits.add_metric([study.hex(), code], number)
        yield waits
        spent = GaugeMetricFamily(
            "p2pfl_privacy_epsilon_spent", "Of the study's dataset.", labels=["study"]
        )
        cap = GaugeMetricFamily(
            "p2pfl_privacy_epsilon_cap", "Of the study's dataset.", labels=["study"]
        )
        for study, (epsilon, epsilon_cap) in self._times.spent.items():
            spent.add_metric([study.hex()], epsilon)
            cap.add_metric([study.hex()], epsilon_cap)
        yield from (spent, cap)


def _counter(name: str, words: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, words, labels=["neighbour"])


def _gauge(name: str, words: str, value: int) -> Metric:
    return GaugeMetricFamily(name, words, value=value)
