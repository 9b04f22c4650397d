"""Plans that cheat: each is refused, bounded by the mechanism, or leaves nothing behind in a cell.

What cannot be stopped is written down in docs/confinement.md: what one patient's own gradient says,
within the noise, and the time of day, which a cell can read but no other patient can change.
"""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from learn_cells import PARAMETERS, gradient, kept, parsed, patient, study
from learn_texts import PLAIN

from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.gradient_cells.asking import Cells, Clock
from p2pfl.learning.gradient_cells.trainer import CellTrainer
from p2pfl.learning.plans.code import code_plan
from p2pfl.privacy.vectors import clipped

START = np.random.Generator(np.random.PCG64(5)).normal(size=PARAMETERS).astype(np.float32)
MADE = Callable[[bytes], Cells]
FOUND = 777.0
"""The loss a text reports where it got through."""


@pytest.fixture(scope="module")
def make() -> Iterator[MADE]:
    with kept() as (found, keeper):
        yield found
        assert keeper.poll() is None, "no text ended the keeper"


def ready(make: MADE, text: str) -> Cells:
    cells = make(study(text))
    cells.open(PARAMETERS)
    cells.load(START)
    return cells


def cheating(body: str, before: str = "") -> str:
    """The plain text, whose loss runs `body` first; it knows `losses`, `target` and itself."""
    plain = PLAIN.replace("return weight * functional", "losses = weight * functional").replace(
        'reduction="none"\n        )\n',
        'reduction="none"\n        )\n'
        + textwrap.indent(body, " " * 8)
        + "        return losses\n",
        1,
    )
    return "import ctypes, errno, mmap, os, signal, socket, sys, threading, time\n" + before + plain


REMEMBERING = {
    "a global": ("SEEN.append(1)", "SEEN", "SEEN = []\n"),
    "an attribute of torch": ("torch.seen = 1", "hasattr(torch, 'seen')", ""),
    "the environment": ("os.environ['SEEN'] = '1'", "'SEEN' in os.environ", ""),
    "a file": ("open('/tmp/seen-by-cell', 'w')", "os.path.exists('/tmp/seen-by-cell')", ""),
    "shared memory": (
        "open('/dev/shm/seen-by-cell', 'w')",
        "os.path.exists('/dev/shm/seen-by-cell')",
        "",
    ),
    "an anonymous shared map": ("MAP[0] = 1", "MAP[0] == 1", "MAP = mmap.mmap(-1, 4096)\n"),
    "the shipped code": (
        "sys.modules['p2pfl.learning.gradient_cells.wire'].seen = 1",
        "hasattr(sys.modules['p2pfl.learning.gradient_cells.wire'], 'seen')",
        "",
    ),
    "the plan's own class": ("Plan.seen = 1", "hasattr(Plan, 'seen')", ""),
}


@pytest.mark.parametrize("where", REMEMBERING)
def test_a_text_cannot_remember_a_patient_in(make: MADE, where: str) -> None:
    leave, look, before = REMEMBERING[where]
    body = f"""\
if target.numel() == 1:
    try:
        if {look}:
            losses = losses * 100.0
        if target[0] > 0.5:
            {leave}
    except OSError:
        pass
"""
    cells = ready(make, cheating(body, before))
    alone = gradient(cells, patient(0.3, 0.0))
    assert gradient(cells, patient(0.9, 1.0)) is not None
    after = gradient(cells, patient(0.3, 0.0))
    assert alone is not None
    assert after is not None
    assert np.array_equal(alone[0], after[0])


@pytest.mark.parametrize("where", ["a global", "an attribute of torch", "the environment"])
def test_the_same_text_in_one_process_would_have_remembered(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the test above would show nothing."""
    import torch

    leave, look, before = REMEMBERING[where]
    body = f"if {look}:\n    losses = losses * 100.0\nif target[0] > 0.5:\n    {leave}\n"
    monkeypatch.setenv("SEEN", "")
    monkeypatch.delenv("SEEN")
    plan = code_plan(cheating(body, before))
    arguments = plan.arguments({})
    try:
        told = [
            float(plan.loss_sum(torch.zeros(1, 1), torch.tensor([label]), arguments))
            for label in (0.0, 1.0, 0.0)
        ]
    finally:
        os.environ.pop("SEEN", None)
        torch.__dict__.pop("seen", None)
    assert told[2] == pytest.approx(100 * told[0])


def test_weights_that_a_cell_changes_are_its_own(make: MADE) -> None:
    body = "for one in self.made.parameters():\n    one.data.mul_(3.0)\n"
    text = cheating(body).replace("        return nn.Seq", "        self.made = nn.Seq")
    text = text.replace(", 1),\n        )\n", ", 1),\n        )\n        return self.made\n", 1)
    cells = ready(make, text)
    first, again = (gradient(cells, patient(0.5)) for _ in range(2))
    assert first is not None
    assert again is not None
    assert np.array_equal(first[0], again[0])


TRIES = {
    "reads other pipes": "[os.read(one, 1) for one in (0, 1, 2, *range(5, 64))]",
    "speaks to the keeper": "[os.write(one, b'c') for one in range(5, 64)]",
    "asks the keeper as the worker does": "socket.socket(fileno=5).send(b'c')",
    "ends its keeper": "os.kill(os.getppid(), signal.SIGKILL)",
    "ends its group": "os.killpg(0, signal.SIGKILL)",
    "starts a child": "os.fork()",
    "starts a thread": "threading.Thread(target=time.time).start()",
    "opens a file": "open('/proc/self/maps')",
    "opens a library": "open(torch.__file__)",
    "lists a folder": "os.listdir('/')",
    "looks whether a file is there": "os.stat('/usr')",
    "makes a file in memory": "os.memfd_create('x')",
    "makes a pipe": "os.pipe()",
    "makes a socket": "socket.socket(socket.AF_UNIX)",
    "makes a pair of sockets": "socket.socketpair()",
    "makes System V memory": "call(29, 1, 4096, 0o1600)",
    "makes a message queue": "call(68, 1, 0o1600)",
    "waits at a word that all cells map": "call(202, LIBRARY, 1, 1, 0, 0, 0)",
    "reads its keeper's memory": "call(310, KEEPER, 0, 0, 0, 0, 0)",
    "traces its keeper": "call(101, 16, KEEPER, 0, 0)",
    "cancels its deadline": "signal.setitimer(signal.ITIMER_REAL, 0)",
    "catches its deadline": "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
    "blocks its deadline": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})",
    "counts its processor time": "call(100, 0)",
    "counts others by its number": "os.getpid() == 0 and refused()",
    "counts what the machine does": "open('/proc/stat')",
    "slows its keeper down": "os.setpriority(os.PRIO_PROCESS, KEEPER, 19)",
    "sleeps": "time.sleep(0.001)",
    "asks for the time by system call": "call(228, 0, 0)",
    "maps memory of a file": "mmap.mmap(3, 4096)",
    "loads a library": "ctypes.CDLL('libthread_db.so.1')",
    "takes all memory": "bytearray(9 << 30)",
    "starts a program": "os.execv('/bin/true', ['true'])",
    "uses the ring of system calls": "call(425, 1, 0)",
    "makes a namespace": "call(272, 0x10000000)",
    "gives up its own filter": "call(157, 22, 0, 0, 0, 0)",
    "reads its own limits": "call(302, 0, 7, 0, 0)",
}


@pytest.mark.parametrize("what", TRIES)
def test_a_cell_refuses_a_text_that(make: MADE, what: str) -> None:
    body = f"""\
def refused():
    raise PermissionError
def call(*given):
    done = LIBC.syscall(*map(ctypes.c_long, given))
    if done < 0 and ctypes.get_errno() == errno.EPERM:
        refused()
try:
    {TRIES[what]}
    losses = losses * 0.0 + {FOUND}
except (OSError, RuntimeError, MemoryError):
    pass
"""
    before = """\
LIBC = ctypes.CDLL(None, use_errno=True)
LIBRARY = ctypes.cast(LIBC.getpid, ctypes.c_void_p).value & ~4095
KEEPER = 1
"""
    if os.uname().machine != "x86_64" and "call(" in TRIES[what]:
        pytest.skip("numbers of system calls are those of x86-64")
    cells = ready(make, cheating(body, before))
    found = gradient(cells, patient(0.3, 0.0))
    assert found is not None, "the text went on after the refusal"
    assert found[1] != FOUND
    assert gradient(cells, patient(0.3, 0.0)) is not None


WRONG = {
    "not a number": "losses = losses * float('nan')",
    "infinite": "losses = losses * float('inf')",
    "nothing": "os._exit(0)",
    "a crash": "ctypes.string_at(0)",
    "too little": "os.write(4, b'x' * 9); os._exit(0)",
    "too much": "os.write(4, b'x' * 4000)",
    "without end": "[os.write(4, b'x' * 65536) for _ in range(10_000)]",
    "in another process's name": "sys.exit(0)",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_gradient_that_is_none_counts_as_zeros(make: MADE, what: str) -> None:
    body = f"if target[0] > 0.5:\n    {WRONG[what]}\n"
    cells = ready(make, cheating(body))
    assert gradient(cells, patient(0.9, 1.0)) is None
    assert gradient(cells, patient(0.3, 0.0)) is not None


@pytest.mark.parametrize("how", ["while True: pass", "LOCK.acquire(); LOCK.acquire()"])
def test_a_text_that_hangs_for_one_patient_loses_that_patient_alone(make: MADE, how: str) -> None:
    body = f"if target[0] > 0.5:\n    {how}\n"
    cells = ready(make, cheating(body, "LOCK = threading.Lock()\n"))
    assert gradient(cells, patient(0.9, 1.0), limit_s=1.0) is None
    assert gradient(cells, patient(0.3, 0.0)) is not None


def test_a_huge_gradient_is_one_patient_s_share_and_no_more(make: MADE) -> None:
    """Skipping the clipping is not the text's to do: it happens in the worker."""
    found = gradient(ready(make, cheating("losses = losses * 1e30\n")), patient(0.9))
    assert found is not None
    assert np.linalg.norm(found[0].astype(np.float64)) > 1e20
    assert np.linalg.norm(clipped(found[0], 0.5)) <= 0.5


def test_a_text_that_patches_clipping_and_noise_changes_nothing(make: MADE) -> None:
    body = """\
for module in list(sys.modules.values()):
    for name in ("clipped", "noisy", "normal"):
        if hasattr(module, name) and getattr(module, "__name__", "").startswith("p2pfl"):
            setattr(module, name, lambda *given, **named: given[0] * 0.0)
"""
    cells = ready(make, cheating(body))
    raw, plain = study(cheating(body)), study(PLAIN)
    key = iter([bytes(range(32)), bytes(32)] * 2)
    data = _patients()
    moved = []
    for one in (raw, plain):
        trainer = CellTrainer(
            parsed(one), data, make(one), denominator=20, random_bytes=lambda n: next(key)[:n]
        )
        moved.append(trainer.train(START, 0, {}).vector)
    assert np.array_equal(moved[0], moved[1])
    assert cells.clock is not None


def test_when_a_cell_starts_and_when_a_step_ends_depends_on_no_patient(make: MADE) -> None:
    """Turns: a text that dawdles over some patients changes no time that anyone can see."""
    text = cheating("if target[0] > 0.5:\n    sum(range(300_000))\n")
    cells = ready(make, text)
    ends: list[float] = []
    last = [0.0]

    def now_s() -> float:
        last[0] = time.monotonic()
        return last[0]

    cells.clock = Clock(now_s, lambda wait_s: ends.append(last[0] + wait_s))
    trainer = CellTrainer(
        parsed(study(text)), _patients(), cells, denominator=20, random_bytes=os.urandom
    )
    trainer.train(START, 0, {})
    turns = np.diff(ends)
    assert len(turns) == 2
    assert turns[0] == pytest.approx(turns[1], abs=1e-6)


def test_names_of_tensors_carry_nothing(make: MADE) -> None:
    """Names are asked for where no patient is; what is no plain name is refused."""
    text = PLAIN.replace("return nn.Seq", "made = nn.Seq").replace(
        "    def loss",
        "        made.add_module('\\u202e', nn.Linear(1, 1))\n        return made\n\n    def loss",
    )
    with pytest.raises(PlanRefused, match="no plain name and shape"):
        make(study(text)).open(PARAMETERS)


def test_a_metric_is_of_the_declared_names_and_ranges_or_nothing(make: MADE) -> None:
    raw = study(PLAIN)
    trainer = CellTrainer(
        parsed(raw), _patients(), make(raw), denominator=20, random_bytes=os.urandom
    )
    good = {"auc": 0.5, "accuracy": 0.5, "loss": 0.1234567, "measures": {"right": 0.123456789}}
    found = trainer._scored(good, 3)
    assert (found.measures["right"], found.loss) == (0.1235, 0.1235)
    for wrong in (
        {"right": 1.5},
        {"right": float("nan")},
        {"right": "patient 7"},
        {},
    ):
        with pytest.raises(PlanRefused):
            trainer._scored({**good, "measures": wrong}, 3)
    extra = {**good, "measures": {"right": 0.5, "age_of_patient_7": 0.63}}
    assert set(trainer._scored(extra, 3).measures) == {"right"}


def test_the_order_of_a_batch_is_not_the_text_s(make: MADE) -> None:
    """Each patient comes alone, and the sum has no order."""
    cells = ready(make, PLAIN)
    one, two = gradient(cells, patient(0.1)), gradient(cells, patient(0.9))
    assert one is not None
    assert two is not None
    there, back = (
        clipped(one[0], 0.5) + clipped(two[0], 0.5),
        clipped(two[0], 0.5) + clipped(one[0], 0.5),
    )
    assert np.array_equal(there, back)


def _patients():  # type: ignore[no-untyped-def]
    from test_learn_cells import patients

    return patients(3)
