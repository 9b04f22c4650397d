"""The simulators' job in PyPI's `p2pfl`, which is somebody else's: run by a Python that has it.

    PYTHON simulations/benchmarks/pypi_p2pfl_job.py SITES ROUNDS ROWS FEATURES HIDDEN STEPS

Prints the seconds of its rounds. Its nodes are threads of one process that gossip over its
in-memory protocol on a random graph of degree 4 with its own settings for simulations; everybody
trains in every round, as in the other jobs, and it averages by FedAvg."""
# mypy: ignore-errors
# Its packages live in an environment of their own: they pin other versions than we do.

import copy
import sys
import time

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from p2pfl.communication.protocols.protobuff.memory import MemoryCommunicationProtocol
from p2pfl.learning.dataset.p2pfl_dataset import P2PFLDataset
from p2pfl.learning.frameworks import Framework
from p2pfl.learning.frameworks.learner import Learner
from p2pfl.learning.frameworks.p2pfl_model import P2PFLModel
from p2pfl.management.logger import logger
from p2pfl.node import Node
from p2pfl.settings import Settings
from p2pfl.utils.topologies import TopologyFactory, TopologyType
from p2pfl.utils.utils import set_standalone_settings, wait_convergence, wait_to_finish

SITES, ROUNDS, ROWS, FEATURES, HIDDEN, STEPS = map(int, sys.argv[1:7])
RATE, MOMENTUM = 0.2, 0.9
LIMIT_S = 600


def network() -> torch.nn.Module:
    """The job's model."""
    return torch.nn.Sequential(
        torch.nn.Linear(FEATURES, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 2)
    )


class Model(P2PFLModel):
    """A torch module as its nodes exchange it."""

    def get_parameters(self) -> list[np.ndarray]:
        return [value.detach().numpy() for value in self.model.state_dict().values()]

    def set_parameters(self, params: list[np.ndarray] | bytes) -> None:
        if isinstance(params, bytes):
            params, info = self.decode_parameters(params)
            self.additional_info.update(info)
        named = zip(self.model.state_dict(), params, strict=True)
        self.model.load_state_dict({name: torch.tensor(value) for name, value in named})

    def build_copy(self, **kwargs) -> "Model":
        return Model(copy.deepcopy(self.model), **kwargs)

    def get_framework(self) -> str:
        return Framework.PYTORCH.value


class FullBatch(Learner):
    """Full-batch steps on the site's own table."""

    def fit(self) -> P2PFLModel:
        model, rows = self.get_model(), self.get_data().get(slice(None))
        x, y = torch.tensor(rows["x"]), torch.tensor(rows["y"])
        optimizer = torch.optim.SGD(model.model.parameters(), lr=RATE, momentum=MOMENTUM)
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model.model(x), y).backward()
            optimizer.step()
        model.set_contribution([self.addr], ROWS)
        return model

    def interrupt_fit(self) -> None:
        """A round takes milliseconds."""

    def evaluate(self) -> dict[str, float]:
        return {}

    def get_framework(self) -> str:
        return Framework.PYTORCH.value


def patients(site: int) -> P2PFLDataset:
    """One site's made-up table."""
    rng = np.random.default_rng(site)
    x = rng.uniform(-1.0, 1.0, (ROWS, FEATURES)).astype(np.float32)
    table = Dataset.from_dict({"x": x, "y": (x.sum(axis=1) > 0).astype(np.int64)})
    return P2PFLDataset(DatasetDict({"train": table, "test": table}))


def main() -> None:
    """All rounds."""
    torch.set_num_threads(1)
    set_standalone_settings()
    Settings.general.DISABLE_RAY = True
    logger.set_level("ERROR")
    first = network()
    nodes = []
    for site in range(SITES):
        node = Node(
            Model(copy.deepcopy(first)),
            patients(site),
            addr=f"site-{site}",
            learner=FullBatch(),
            protocol=MemoryCommunicationProtocol(),
        )
        node.start()
        nodes.append(node)
    kind = TopologyType.RANDOM_4 if SITES > 5 else TopologyType.FULL
    TopologyFactory.connect_nodes(TopologyFactory.generate_matrix(kind, SITES), nodes)
    wait_convergence(nodes, SITES - 1, only_direct=False, wait=60)
    started_s = time.perf_counter()
    nodes[0].set_start_learning(rounds=ROUNDS, epochs=1, trainset_size=SITES)
    wait_to_finish(nodes, timeout=LIMIT_S)
    print(f"SECONDS {time.perf_counter() - started_s:.3f}", flush=True)
    for node in nodes:
        node.stop()


main()
