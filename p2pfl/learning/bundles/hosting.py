"""One study's training at one site by a bundle: what `Trainer` offers, done by MONAI's ClientAlgo.

Responsible for handing patients and models to the bundle and for taking back nothing but the named
tensors of its network and the metrics that the study names. Asked only in a confined process: a
bundle's configuration is code. Imports torch and monai.
"""

from __future__ import annotations

import hashlib
import logging
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.core.manifest_bundle import BUNDLE_PLAN, EVALUATE_CONFIG, TRAIN_CONFIG, BundleTerms
from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.bundles.records import Records, facts_of
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.datasets.synthetic import SyntheticPatients
from p2pfl.learning.errors import Diverged, ModelRefused, PlanRefused, RequestRefused
from p2pfl.learning.flat_model import trained_schema
from p2pfl.learning.local_work import LocalWork
from p2pfl.learning.plans.arguments import Scalar
from p2pfl.learning.plans.code_model import refuse_batch_norms
from p2pfl.learning.scoring import Score
from p2pfl.learning.vector import Schema, Vector, flatten, unflatten
from p2pfl.runtime.confinement.standing import is_confined

if TYPE_CHECKING:
    from monai.fl.client import MonaiAlgo

EPOCHS: Final = "local_epochs"
"""The argument that every bundle has: epochs of a round."""
EPOCHS_MAX: Final = 1000
_OURS: Final = ("train_data", "validate_data", "bundle_root", "output_dir")


class BundleTrainer:
    """A bundle's trainer and evaluator on this site's patients; optimizer and epochs go on.

    Where an argument is steered, both are made anew: the optimizer then begins afresh.
    """

    def __init__(
        self, manifest: Manifest, folder: Path, work: Path, train: Patients, holdout: Patients
    ) -> None:
        """folder: the site's copy of the bundle; work: where the bundle may write.

        Raises PlanRefused, ModelRefused."""
        self._terms = _required(manifest)
        self._manifest = manifest
        self._folder = folder
        self._work = work
        self._train = train
        self._holdout = holdout
        self._site = hashlib.sha256(b"".join(train.patients)).digest()
        self._explains = isinstance(train, SyntheticPatients)
        self._losses: list[float] = []
        self._in_force = dict(manifest.plan.arguments)
        self._algo = self._made(self._in_force)
        self.schema = self._schema()

    @classmethod
    def of(
        cls, manifest: Manifest, folder: Path, work: Path, train: Patients, holdout: Patients
    ) -> BundleTrainer:
        """The trainer of a study whose length the manifest names. Raises as the class does."""
        made = cls(manifest, folder, work, train, holdout)
        if made.schema.parameters != manifest.study.parameters:
            raise ModelRefused(
                f"the bundle's network has {made.schema.parameters} parameters, the manifest says "
                f"{manifest.study.parameters}"
            )
        return made

    def initial(self) -> Vector:
        """As the bundle starts its network, with torch under the study's seed. float32[d]."""
        named = dict(self._network().named_parameters())
        values = {one.name: named[one.name].detach().numpy() for one in self.schema.tensors}
        return flatten(values, self.schema)

    def train(self, base: Vector, round_: int, changes: Mapping[str, Scalar]) -> LocalWork:
        """One round of the bundle's training from `base` (float32[d]).

        Raises PlanRefused, ModelRefused, Diverged."""
        from monai.fl.utils.exchange_object import ExchangeObject

        self._steer(changes)
        words = np.frombuffer(
            hashlib.sha256(f"{self._manifest.study.seed}/{round_}/".encode() + self._site).digest(),
            dtype="<u4",
        )
        torch.manual_seed(int(words[0]) << 31 | int(words[1]))
        self._losses.clear()
        given = ExchangeObject(weights=unflatten(base.copy(), self.schema))
        self._asked("in training", lambda: self._algo.train(given))
        vector = self._weights()
        if not np.isfinite(vector).all():
            self._algo = self._made(self._in_force)
            raise Diverged(f"training in round {round_} ended in values that are not finite")
        loss = float(np.mean(self._losses)) if self._losses else 0.0
        privacy = self._manifest.privacy
        steps = privacy.steps_per_round if privacy.is_by_update else max(1, len(self._losses))
        return LocalWork(vector, loss if math.isfinite(loss) else 0.0, steps, steps)

    def score(self, vector: Vector, on: Patients) -> Score:
        """What the bundle's evaluator says of a model: the metrics that the study names.

        `accuracy` is the first of them within 0 to 1. It stays at the site. Raises PlanRefused."""
        from monai.fl.utils.exchange_object import ExchangeObject

        if on is not self._holdout:
            raise RequestRefused("a bundle scores the study's own hold-out, and nobody else")
        given = ExchangeObject(weights=unflatten(vector.copy(), self.schema))
        found = self._asked("in scoring", lambda: self._algo.evaluate(given)).metrics
        measures = named_metrics(found, self._terms.metrics)
        units = [name for name, pair in self._terms.metrics.items() if pair == (0.0, 1.0)]
        headline = measures[units[0]] if units else 0.0
        return Score(None, headline, 0.0, on.size, measures)

    def metrics(self) -> dict[str, float]:
        """Every metric with a number that the bundle gives of its network as it is, by name."""
        from monai.fl.utils.exchange_object import ExchangeObject

        named = {name: one.detach().numpy() for name, one in self._network().named_parameters()}
        given = ExchangeObject(weights=named)
        found = self._asked("in scoring", lambda: self._algo.evaluate(given)).metrics
        return {name: float(value) for name, value in dict(found).items() if _is_number(value)}

    def losses(self, vector: Vector, on: Patients) -> NDArray[np.float64]:
        """Never: a bundle gives no loss of single patients. Raises RequestRefused."""
        raise RequestRefused("a bundle has no hold-out guard")

    # -- the bundle ------------------------------------------------------------------------------

    def _steer(self, changes: Mapping[str, Scalar]) -> None:
        ranges = self._manifest.plan.ranges
        for name, value in changes.items():
            low, high = ranges.get(name, (math.nan, math.nan))
            if isinstance(value, str) or not low <= value <= high:
                raise PlanRefused(f'argument "{name}" is {value!r}, which no range here allows')
        in_force = {**self._manifest.plan.arguments, **changes}
        if in_force != self._in_force:
            self._algo = self._made(in_force)
            self._in_force = in_force

    def _made(self, arguments: Mapping[str, Scalar]) -> MonaiAlgo:
        """MONAI's ClientAlgo for this bundle, ready to train. Raises PlanRefused."""
        from monai.fl.client import MonaiAlgo
        from monai.fl.utils.constants import ExtraItems

        logging.disable(logging.INFO)
        if str(self._folder) not in sys.path:
            sys.path.insert(0, str(self._folder))
        configs = (TRAIN_CONFIG, EVALUATE_CONFIG)
        given = self._given(arguments, configs)
        epochs = arguments.get(EPOCHS, 1)
        if type(epochs) is not int or not 1 <= epochs <= EPOCHS_MAX:
            raise PlanRefused(f'argument "{EPOCHS}" is {epochs!r}, expected 1 to {EPOCHS_MAX}')
        torch.manual_seed(self._manifest.study.seed)
        algo = MonaiAlgo(
            bundle_root=str(self._folder),
            local_epochs=epochs,
            send_weight_diff=False,
            config_train_filename=TRAIN_CONFIG,
            train_kwargs=dict(given),
            config_evaluate_filename=list(configs),
            eval_kwargs=dict(given),
        )
        with warnings.catch_warnings():
            # It warns of bundles that come from elsewhere; this one is pinned, approved, confined.
            warnings.simplefilter("ignore", UserWarning)
            named = {ExtraItems.CLIENT_NAME: "site"}
            self._asked("as it was opened", lambda: algo.initialize(named))
        algo.trainer.loss_function = self._recorded(algo.trainer.loss_function)
        return algo

    def _given(
        self, arguments: Mapping[str, Scalar], configs: tuple[str, ...]
    ) -> dict[str, object]:
        """What takes the place of the configuration's own values. Raises PlanRefused."""
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        paths = [str(self._folder / one) for one in configs]
        self._asked("as it was read", lambda: parser.read_config(paths))
        written: Mapping[str, object] = parser.get()
        for name in _OURS[:2]:
            if name not in written:
                raise PlanRefused(
                    f'the bundle\'s configuration has no "{name}": that is where patients are put'
                )
        own = {name: value for name, value in arguments.items() if name != EPOCHS}
        for name, value in own.items():
            if name in _OURS or not _is_same_kind(written.get(name), value):
                raise PlanRefused(
                    f'argument "{name}" is {value!r}, and the bundle\'s configuration has no '
                    f'"{name}" of that kind'
                )
        facts = facts_of(self._manifest.data)
        draws = np.random.default_rng(np.frombuffer(self._site, dtype="<u4"))
        return {
            **{name: fact for name, fact in facts.items() if name in written},
            **own,
            "train_data": Records(self._train, draws),
            "validate_data": Records(self._holdout),
            "bundle_root": str(self._folder),
            "output_dir": str(self._work),
        }

    def _asked(self, what: str, ask: Callable[[], Any]) -> Any:
        """Let the bundle do something. what: completes "the bundle failed …". Raises PlanRefused.

        What an error says may be about patients: it is told where there are none."""
        try:
            return ask()
        except Exception as error:
            said = f": {' '.join(str(error).split())[:300]}" if self._explains else ""
            raise PlanRefused(f"the bundle failed {what}: {type(error).__name__}{said}") from None

    def _recorded(self, loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """The bundle's loss, of which each batch's value is kept for the people here."""

        def recorded(*given: Any, **named: Any) -> torch.Tensor:
            value = loss(*given, **named)
            self._losses.append(float(value.detach().mean()))
            return value

        return recorded

    def _network(self) -> torch.nn.Module:
        network = self._algo.trainer.network
        if not isinstance(network, torch.nn.Module):
            raise PlanRefused("the bundle's trainer has no network that is a torch.nn.Module")
        return network

    def _schema(self) -> Schema:
        """The tensors that are trained. Raises PlanRefused where a vector would not hold them."""
        network = self._network()
        refuse_batch_norms(network, "the bundle's network")
        for name, one in network.named_parameters():
            if one.requires_grad and one.dtype != torch.float32:
                raise PlanRefused(
                    f'the bundle\'s parameter "{name}" is {one.dtype}, expected float32'
                )
        if len(dict(network.named_parameters(remove_duplicate=False))) != len(
            dict(network.named_parameters())
        ):
            raise PlanRefused("the bundle's network uses one parameter under two names")
        schema = trained_schema(network)
        if not schema.parameters:
            raise PlanRefused("the bundle's network has no parameters to train")
        return schema

    def _weights(self) -> Vector:
        """What the bundle trained: the schema's tensors and nothing else. Raises ModelRefused."""
        weights = self._algo.get_weights().weights
        named = {}
        for one in self.schema.tensors:
            value = weights.get(one.name)
            if not isinstance(value, torch.Tensor):
                raise ModelRefused(f"the bundle gave no tensor {one.name}")
            named[one.name] = value.detach().to(torch.float32).numpy()
        return flatten(named, self.schema)


def named_metrics(found: object, ranges: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Of an evaluator's metrics those that the study names, in their ranges, four digits.

    Raises PlanRefused."""
    given = found if isinstance(found, Mapping) else {}
    measures: dict[str, float] = {}
    for name, (low, high) in ranges.items():
        value = given.get(name)
        if not _is_number(value) or not low <= float(value) <= high:  # type: ignore[arg-type]
            raise PlanRefused(f'the bundle\'s metric "{name}" is not within {low:g} to {high:g}')
        measures[name] = round(float(value), 4)  # type: ignore[arg-type]
    return measures


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.floating) and math.isfinite(float(value))


def _is_same_kind(written: object, value: Scalar) -> bool:
    """Whether an argument may take the place of what the configuration holds."""
    if isinstance(written, bool) or isinstance(value, bool):
        return isinstance(written, bool) and isinstance(value, bool)
    if isinstance(written, int | float):
        return isinstance(value, int) or (isinstance(value, float) and isinstance(written, float))
    return isinstance(written, str) and isinstance(value, str) and not value.startswith(("$", "@"))


def _required(manifest: Manifest) -> BundleTerms:
    if manifest.bundle is None:
        raise RequestRefused(f'the study\'s plan is not "{BUNDLE_PLAN}"')
    if not is_confined():
        raise PlanRefused("a bundle runs only in a confined process, and this one is not")
    return manifest.bundle
