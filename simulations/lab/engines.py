"""Where the sites' work is done: in this process, in a pool of processes, or on a Ray cluster.

A site always works at the same place, because its optimizer remembers. All engines give the same
numbers: what is worked off together is decided by virtual time alone."""

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Final, Protocol

from p2pfl.runtime.errors import OperatorError
from simulations.lab.terms import Scenario
from simulations.lab.workshop import Answer, Task, Workshop

ENGINES: Final = ("process", "pool", "ray")
Pending = Callable[[], list[Answer]]
"""Waits for a task's answers."""


class Engine(Protocol):
    """Does tasks at `places` places."""

    places: int

    def submit(self, place: int, task: Task) -> Pending:
        """Begin a task at a place, after all that were given to it before."""

    def close(self) -> None:
        """End everything that was started."""


class InProcess:
    """One place: here."""

    def __init__(self, scenario: Scenario) -> None:
        import torch

        torch.set_num_threads(1)  # more would add up in another order than a pool does
        self.places = 1
        self._workshop = Workshop(scenario)

    def submit(self, place: int, task: Task) -> Pending:
        """Do it now."""
        answers = self._workshop.do(task)
        return lambda: answers

    def close(self) -> None:
        """Nothing was started."""


_workshop: Workshop | None = None


def _open(scenario: Scenario) -> None:
    """A pool's process prepares its patients once."""
    import torch

    global _workshop  # a pool's process has one, and no other place for it
    torch.set_num_threads(1)
    _workshop = Workshop(scenario)


def _do(task: Task) -> list[Answer]:
    assert _workshop is not None, "the pool opens its processes with a scenario"
    return _workshop.do(task)


class Pool:
    """Processes of this machine, one place each."""

    def __init__(self, scenario: Scenario, places: int) -> None:
        self.places = places
        fork = get_context("spawn")
        self._pools = [
            ProcessPoolExecutor(1, mp_context=fork, initializer=_open, initargs=(scenario,))
            for _ in range(places)
        ]

    def submit(self, place: int, task: Task) -> Pending:
        """Hand it over and go on."""
        future: Future[list[Answer]] = self._pools[place].submit(_do, task)
        return future.result

    def close(self) -> None:
        """End the processes."""
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


class RayCluster:
    """Actors of a Ray cluster, one place each; without an address, a cluster on this machine."""

    def __init__(self, scenario: Scenario, places: int, address: str) -> None:
        """Raises OperatorError where Ray is not installed."""
        try:
            import ray
        except ImportError:
            raise OperatorError(
                "Ray is not installed",
                fix="install it into this environment: pip install 'p2pfl-node[ray]'",
            ) from None
        self.places = places
        self._ray: Any = ray
        where: dict[str, Any] = {"address": address} if address else {"num_cpus": places}
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            ray.init(**where, include_dashboard=False, log_to_driver=False)
        actor = ray.remote(num_cpus=1)(Workshop)
        self._actors = [actor.remote(scenario) for _ in range(places)]

    def submit(self, place: int, task: Task) -> Pending:
        """Hand it over and go on."""
        reference = self._actors[place].do.remote(task)
        return lambda: list(self._ray.get(reference))

    def close(self) -> None:
        """End the actors, and the cluster if it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._is_ours:
            self._ray.shutdown()


def engine_named(name: str, scenario: Scenario, *, places: int, address: str = "") -> Engine:
    """Raises DataRefused, PlanRefused, OperatorError."""
    if name == "pool":
        return Pool(scenario, places)
    if name == "ray":
        return RayCluster(scenario, places, address)
    return InProcess(scenario)
