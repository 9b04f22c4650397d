"""The judgement of a chaos run: what the homes hold, what the logs say, what the kernel counted.

The nodes have been stopped; nothing here changes a home."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from ledger.log import Entry, LogReader
from ledger.provenance import kinds
from p2pfl.core.manifest import parse_manifest
from simulations.chaos.memory import LIFE_MIN_S, RESIDENT_MB_MAX, growth, is_leak
from simulations.chaos.node import Node
from simulations.chaos.people import AT_ONCE, CommandFailed, p2pfl
from simulations.chaos.run import Course

DESCRIPTORS_MORE: Final = 3
SOCKETS_OWN: Final = 8
"""Listening, the control socket, and what threads wake each other with."""
AUDIT_S: Final = 1200.0
WRONG: Final = "What is wrong"
CHECKED: Final = "What was checked"
"""The headings around the findings of an audit."""
COMPLETE: Final = "complete"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the judgement. wrong: a sentence each; none: it is as it should be."""

    what: str
    shown: str
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """What one home holds at the end."""

    node: Node
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return self.node.name

    def of(self, kind: str, study: bytes | None = None) -> list[dict[str, Any]]:
        """Bodies of the entries of a kind, of one study if given."""
        bodies = [
            dict(entry.body) | {"seq": entry.seq} for entry in self.entries if entry.kind == kind
        ]
        return [body for body in bodies if study is None or body["study"] == study]


def judge(nodes: Sequence[Node], course: Course) -> list[Finding]:
    """Everything that has to hold after a run, whatever happened in it."""
    sites = [Site(node, _entries(node)) for node in nodes]
    studies = [bytes.fromhex(study) for study in course.studies]
    return [
        _studies(sites, studies, course),
        _released_once(sites, studies),
        _epsilon(sites, studies),
        _audits(sites),
        _blobs(sites),
        _leftovers(sites),
        _errors(sites),
        _ends(course),
        _memory(nodes),
        _descriptors(nodes),
    ]


def _entries(node: Node) -> tuple[Entry, ...]:
    reader = LogReader.open(node.home.path)
    try:
        return tuple(reader.entries())
    finally:
        reader.close()


def _studies(sites: Sequence[Site], studies: Sequence[bytes], course: Course) -> Finding:
    wrong, left, complete = [], [], 0
    if course.people_failed:
        wrong.append(course.people_failed)
    if course.interrupted:
        wrong.append(course.interrupted)
    if not studies:
        wrong.append("no study was proposed")
    for number, study in enumerate(studies, start=1):
        for site in sites:
            reasons = [body["reason"] for body in site.of(kinds.StudyClosed.KIND, study)]
            if reasons == [COMPLETE]:
                complete += 1
            elif len(reasons) == 1:
                left.append(f"{site.name} left study {number}: {reasons[0]}")
            elif reasons:
                wrong.append(f"study {number} at {site.name} was closed {len(reasons)} times")
            else:
                done = max(
                    (body["round"] for body in site.of(kinds.AggDone.KIND, study)), default=-1
                )
                wrong.append(f"study {number} goes on at {site.name}, {done + 1} rounds are done")
    shown = f"{complete} of {len(studies) * len(sites)} complete" + "".join(f"; {x}" for x in left)
    return Finding(f"{len(studies)} studies at {len(sites)} sites", shown, tuple(wrong))


def _released_once(sites: Sequence[Site], studies: Sequence[bytes]) -> Finding:
    wrong, released, skipped = [], 0, 0
    for site, study in itertools.product(sites, studies):
        published = site.of(kinds.UpdatePublished.KIND, study)
        rounds = [body["round"] for body in published]
        trained = {body["seq"] for body in site.of(kinds.TrainDone.KIND, study)}
        released += len(rounds)
        skipped += len(site.of(kinds.RoundSkipped.KIND, study))
        if len(rounds) != len(set(rounds)):
            wrong.append(f"{site.name} released a round twice")
        if not {body["train_seq"] for body in published} - {-1} <= trained:
            wrong.append(f"{site.name} released what no training is on record for")
    return Finding("rounds released once", f"{released} released, {skipped} skipped", tuple(wrong))


def _epsilon(sites: Sequence[Site], studies: Sequence[bytes]) -> Finding:
    """What is on record after each training is what the table said when the study was approved."""
    wrong, trainings = [], 0
    for site, study in itertools.product(sites, studies):
        approvals = site.of(kinds.StudyApproved.KIND, study)
        spent = [body["dp"]["eps_total_u"] for body in site.of(kinds.TrainDone.KIND, study)]
        trainings += len(spent)
        if len(approvals) != 1:
            wrong.append(f"{site.name} has {len(approvals)} approvals of one study")
        elif spent != list(approvals[0]["eps_table_u"][1 : len(spent) + 1]):
            wrong.append(f"{site.name}: ε on record is not the approved table's")
    return Finding("ε as approved", f"{trainings} trainings", tuple(wrong))


def _audits(sites: Sequence[Site]) -> Finding:
    """`p2pfl ledger audit` of every home, compared with all others' homes."""

    def audit(site: Site) -> str:
        others = [other for other in sites if other is not site]
        peers = [word for other in others for word in ("--peers", str(other.node.home.path))]
        try:
            p2pfl(site.node.home, "ledger", "audit", *peers, limit_s=AUDIT_S)
        except CommandFailed as failure:
            wrong = failure.printed.partition(WRONG)[2].partition(CHECKED)[0]
            return f"{site.name}: {' '.join(wrong.split()) or failure.told}"
        return ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = tuple(said for said in pool.map(audit, sites) if said)
    entries = sum(len(site.entries) for site in sites)
    clean = len(sites) - len(wrong)
    return Finding("audits across sites", f"{clean} clean, {entries} entries", wrong)


def _blobs(sites: Sequence[Site]) -> Finding:
    """Each is what its name says, and named by the own ledger.

    An update that came when its round was over is named by its sender's ledger alone: shown. So is
    an own model whose entry a kill came before, one a kill: the node removes it after a month."""
    wrong, count, size, late, cut = [], 0, 0, 0, 0
    known = {site.name: frozenset(_digests(site)) for site in sites}
    anybodys = frozenset().union(*known.values())
    for site in sites:
        unnamed = []
        for path in sorted(site.node.home.blobs.iterdir()):
            count, size = count + 1, size + path.stat().st_size
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
                wrong.append(f"{site.name}: blobs/{path.name[:12]} is not what its name says")
            elif (digest := bytes.fromhex(path.name)) not in known[site.name]:
                late += 1
                if digest not in anybodys:
                    unnamed.append(f"{site.name}: blobs/{path.name[:12]} is in nobody's ledger")
        if len(unnamed) > sum(life.ended == "killed" for life in site.node.lives):
            wrong += unnamed
        else:
            cut += len(unnamed)
    shown = f"{count} files, {size / 1e6:.1f} MB; {late - cut} came too late for their round"
    if cut:
        shown += f", {cut} cut off by a kill"
    return Finding("blobs whole and on record", shown, tuple(wrong))


def _digests(site: Site) -> Iterator[bytes]:
    """Every 32 bytes that the ledger mentions, and the initial models of its studies."""
    for entry in site.entries:
        yield from _bytes_in(entry.body)
    for path in site.node.home.studies.glob("*.toml"):
        yield parse_manifest(path.read_bytes()).study.initial_model


def _bytes_in(value: object) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(_bytes_in, value.values()))
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(map(_bytes_in, value))


def _leftovers(sites: Sequence[Site]) -> Finding:
    """Half files, and files of rounds that are over."""
    wrong, looked = [], 0
    for site in sites:
        for path in site.node.home.path.rglob("*"):
            looked += 1
            if path.name.startswith(".part-") or path.name.endswith(".part"):
                wrong.append(f"{site.name}: {path.relative_to(site.node.home.path)}")
    return Finding("no half files", f"{looked} files", tuple(wrong))


def _errors(sites: Sequence[Site]) -> Finding:
    wrong, lines, torn = [], 0, 0
    for site in sites:
        lines, torn = lines + len(site.node.events), torn + site.node.torn_lines
        errors = [line["error"] for _, line in site.node.said("internal_error")]
        wrong += [f"{site.name}: {error} (see logs/bugs.log)" for error in sorted(set(errors))]
        if "Traceback" in site.node.console.read_text("utf-8", "replace"):
            wrong.append(f"{site.name}: a traceback on its terminal, {site.node.console.name}")
    shown = f"{lines} log lines" + (f", {torn} cut off" if torn else "")
    return Finding("no error of our own", shown, tuple(wrong))


def _ends(course: Course) -> Finding:
    wrong = [f"{at_s:.0f} s, site{place}: {said}" for at_s, place, said in course.unexpected]
    shown = f"{len(course.ends)}: disk full, home in use, clock"
    return Finding("nodes that ended by themselves", shown, (*wrong, *course.bad_stops))


def _memory(nodes: Sequence[Node]) -> Finding:
    """Every process that lived long enough: does its growth go on?"""
    wrong, growths, highest = [], [], 0.0
    for node in nodes:
        for life in node.lives:
            most_mb = max((sample.resident_mb for sample in life.samples), default=0.0)
            highest = max(highest, most_mb)
            if most_mb > RESIDENT_MB_MAX:
                wrong.append(f"{node.name} took {most_mb:.0f} MB")
            if grown := growth(life):
                growths.append(grown)
                if is_leak(grown):
                    shown = ", ".join(f"{one:.1f}" for one in grown)
                    wrong.append(f"{node.name} grew by {shown} MB/min in the quarters of its life")
    shown = f"{highest:.0f} MB at most; "
    if growths:
        last = max(grown[-1] for grown in growths)
        shown += f"{len(growths)} long lives, {last:.1f} MB/min at the end (worst)"
    else:
        shown += f"nobody lived {LIFE_MIN_S / 60:.0f} minutes"
    return Finding("memory", shown, tuple(wrong))


def _descriptors(nodes: Sequence[Node]) -> Finding:
    """At the end no study runs: files and pipes as at the start, sockets for the members alone."""
    wrong, counted = [], []
    for node in nodes:
        samples = node.lives[-1].samples
        if len(samples) < 2:
            continue
        first, last = samples[0].descriptors, samples[-1].descriptors
        counted.append(last.total())
        more = (last - first) - Counter({"socket": last["socket"]})
        if more.total() > DESCRIPTORS_MORE:
            wrong.append(f"{node.name} holds more than at its start: {dict(more)}")
        if last["socket"] > 2 * len(nodes) + SOCKETS_OWN:
            wrong.append(f"{node.name} holds {last['socket']} sockets")
    shown = f"{max(counted, default=0)} at most, at the end"
    return Finding("descriptors", shown, tuple(wrong))
