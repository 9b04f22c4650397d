"""The people of a chaos run: they found the consortium, and keep a study going.

Everything is a command that is typed, in a process of its own. When a home's node is dead, stopped
or starting the command fails, and they type it again, as people do."""

import hashlib
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ledger.log import LedgerError, LogReader
from ledger.provenance.kinds import StudyClosed
from p2pfl.runtime.home import Home
from simulations.benchmarks.processes import program
from simulations.chaos.patients import SCHEMA, write_patients

DATASET: Final = "patients"
EPSILON_CAP: Final = 100
AT_ONCE: Final = 2
COMMAND_S: Final = 120.0
TYPED_AGAIN_S: Final = 1.0
LOOK_S: Final = 1.0
PATIENTS: Final = 60
TOLD_MAX: Final = 1000


class CommandFailed(Exception):
    """A command that its user sees fail."""

    def __init__(self, words: Sequence[str], told: str, printed: str = "") -> None:
        """told: exit code and the end of what it printed; printed: all of it."""
        super().__init__(f"`p2pfl {' '.join(words)}`: {told}")
        self.told = told
        self.printed = printed


def p2pfl(home: Home, *words: str, limit_s: float = COMMAND_S) -> str:
    """Run a command as its user would. Raises CommandFailed."""
    command = [*program(), "--home", str(home.path), *words]
    try:
        # Our own program, with words of our own.
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(words, f"no answer in {limit_s:g} s") from None
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        told = f"exit code {done.returncode}: {said[-TOLD_MAX:]}"
        raise CommandFailed(words, told, done.stdout)
    return done.stdout


def found(homes: Sequence[Home], addresses: Sequence[str], folder: Path, seed: int) -> None:
    """Keys, roster and patients of every site. Raises CommandFailed."""
    schema, roster = folder / "schema.toml", str(folder / "chaos.roster")
    schema.write_text(SCHEMA)

    def begin(index: int) -> None:
        home = homes[index]
        listen = ("--listen", addresses[index], "--consortium", "chaos")
        p2pfl(home, "init", "--name", home.path.name, *listen)
        allowed = re.sub(r"epsilon_cap = .*", f"epsilon_cap = {EPSILON_CAP}.0", _policy(home))
        home.policy.write_text(allowed)

    def register(index: int) -> None:
        table = folder / f"{homes[index].path.name}.csv"
        write_patients(table, rows=PATIENTS, seed=seed * 1000 + index)
        said = ("--legal-basis", "test", "--dpia", "none", "--delta", "1e-3")
        cap = ("--epsilon-cap", str(EPSILON_CAP))
        schemed = ("--name", DATASET, "--schema", str(schema))
        p2pfl(homes[index], "data", "add", str(table), *schemed, *said, *cap)

    _each(begin, len(homes))
    cards = [str(home.card(home.path.name)) for home in homes]
    p2pfl(homes[0], "roster", "create", *cards, "--out", roster)
    for home in homes:
        p2pfl(home, "roster", "sign", roster)
    _each(lambda index: p2pfl(homes[index], "roster", "install", roster), len(homes) - 1)
    _each(register, len(homes))


def _policy(home: Home) -> str:
    return home.policy.read_text("utf-8")


def _each(call: Callable[[int], object], count: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(call, range(count)))


@dataclass(frozen=True, slots=True)
class StudyTerms:
    """How long one study is."""

    rounds: int
    consensus_rounds: int
    deadline_s: float
    epsilon: float


@dataclass(slots=True)
class People:
    """They propose and approve one study after the other until they are told to propose no more.

    studies: ids as they were proposed; typed_again: commands that had to be repeated."""

    homes: Sequence[Home]
    folder: Path
    terms: StudyTerms
    say: Callable[[str], None]
    studies: list[str] = field(default_factory=list)
    typed_again: int = 0
    failure: BaseException | None = None
    _enough: threading.Event = field(default_factory=threading.Event)
    _given_up: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _closed: dict[Path, dict[bytes, str]] = field(default_factory=dict)
    _read: dict[Path, int] = field(default_factory=dict)

    def begin(self) -> None:
        """The first study, before any node runs: proposed, carried to everybody, approved."""
        self._propose()
        proposal = str(self._manifest.with_suffix(".study"))
        _each(lambda i: p2pfl(self.homes[i + 1], "study", "import", proposal), len(self.homes) - 1)
        self._approve()

    def start(self) -> None:
        """Go to work, in a thread."""
        self._thread = threading.Thread(target=self._work, name="people", daemon=True)
        self._thread.start()

    def propose_no_more(self) -> None:
        """The study under way is the last one."""
        self._enough.set()

    def give_up(self) -> None:
        """Stop typing: time is up."""
        self._enough.set()
        self._given_up.set()

    @property
    def are_done(self) -> bool:
        """Every study has ended at every site, or something is wrong with them."""
        return self._thread is None or not self._thread.is_alive()

    def _work(self) -> None:
        try:
            while True:
                study = bytes.fromhex(self.studies[-1])
                while not self._has_ended(study) and not self._given_up.is_set():
                    time.sleep(LOOK_S)
                ended = "has not ended" if self._given_up.is_set() else "has ended"
                self.say(f"study {len(self.studies)} ({study.hex()[:12]}) {ended}")
                if self._enough.is_set():
                    return
                self._propose()
                self._approve()
        except CommandFailed as failure:
            self.failure = failure

    @property
    def _manifest(self) -> Path:
        return self.folder / f"study-{len(self.studies)}.toml"

    def _approve(self) -> None:
        study = self.studies[-1][:12]
        words = ("study", "approve", study, "--data", DATASET)
        _each(lambda index: self._type(self.homes[index], *words), len(self.homes))
        self.say(f"study {len(self.studies)} ({study}) is approved by everybody")

    def _propose(self) -> None:
        manifest = self.folder / f"study-{len(self.studies) + 1}.toml"
        if not manifest.exists():
            terms = self.terms
            self._type(
                self.homes[0],
                *("study", "new", "--data", DATASET, "--out", str(manifest)),
                *("--name", f"chaos-{len(self.studies) + 1}", "--epsilon", f"{terms.epsilon:g}"),
                *("--rounds", str(terms.rounds), "--round-deadline", f"{terms.deadline_s:g}"),
                *("--consensus-rounds", str(terms.consensus_rounds)),
            )
        self._type(self.homes[0], "study", "propose", str(manifest))
        self.studies.append(hashlib.sha256(manifest.read_bytes()).hexdigest())

    def _type(self, home: Home, *words: str) -> str:
        """Type a command until it works: its node may be down, or may not have heard yet."""
        while True:
            try:
                return p2pfl(home, *words)
            except CommandFailed as failure:
                if self._given_up.wait(TYPED_AGAIN_S):
                    raise
                if self._was_done(failure):
                    return ""
                self.typed_again += 1

    @staticmethod
    def _was_done(failure: CommandFailed) -> bool:
        """The command's answer got lost with its node, and the deed is on record."""
        return any(word in str(failure) for word in ("already", "exists"))

    def _has_ended(self, study: bytes) -> bool:
        return all(study in self._closed_at(home) for home in self.homes)

    def _closed_at(self, home: Home) -> dict[bytes, str]:
        """Study → reason, of everything that has ended at a home."""
        closed = self._closed.setdefault(home.path, {})
        try:
            reader = LogReader.open(home.path)
        except (LedgerError, OSError):
            return closed  # it is being written; the next look will do
        try:
            start = self._read.get(home.path, 0)
            for entry in reader.entries(start):
                self._read[home.path] = entry.seq + 1
                if entry.kind == StudyClosed.KIND:
                    record = StudyClosed.from_body(entry.body)
                    closed[record.study] = record.reason
        finally:
            reader.close()
        return closed
