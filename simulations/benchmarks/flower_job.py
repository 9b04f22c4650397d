"""The simulators' job in Flower: run by Flower's own Python, prints the seconds of its rounds.

    FLOWER_PYTHON simulations/benchmarks/flower_job.py SITES ROUNDS ROWS FEATURES HIDDEN STEPS

Flower averages at one place (FedAvg); there are no neighbours, ledgers or signatures in it."""
# mypy: ignore-errors
# Its packages live in an environment of their own: Flower pins other versions than we do.

import sys
import time

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

SITES, ROUNDS, ROWS, FEATURES, HIDDEN, STEPS = map(int, sys.argv[1:7])
RATE, MOMENTUM = 0.2, 0.9


def network() -> torch.nn.Module:
    """The job's model."""
    return torch.nn.Sequential(
        torch.nn.Linear(FEATURES, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 2)
    )


def patients(site: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One site's made-up table."""
    rng = np.random.default_rng(site)
    x = rng.uniform(-1.0, 1.0, (ROWS, FEATURES)).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy((x.sum(axis=1) > 0).astype(np.int64))


sites = ClientApp()


@sites.train()
def train(message: Message, context: Context) -> Message:
    """One site's round: full-batch steps from the average."""
    torch.set_num_threads(1)
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = patients(int(context.node_config["partition-id"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    arrays = ArrayRecord(model.state_dict())
    metrics = MetricRecord({"num-examples": ROWS})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


averaging = ServerApp()


@averaging.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds."""
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=SITES, min_available_nodes=SITES)
    started_s = time.perf_counter()
    strategy.start(grid, ArrayRecord(network().state_dict()), num_rounds=ROUNDS)
    print(f"SECONDS {time.perf_counter() - started_s:.3f}", flush=True)


run_simulation(
    averaging,
    sites,
    num_supernodes=SITES,
    backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
)
