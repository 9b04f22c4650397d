"""A researcher's own plan, given as text, as the trainer takes any other plan.

Responsible for running the text, for holding it to what docs/code-plans.md asks of it, and for
errors that name its line. It must be asked only in a confined process: see `plans.plan_of`.
Imports torch only when a model is asked for; what the text itself imports is loaded with it.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from p2pfl.core.manifest_code import CODE_PLAN
from p2pfl.core.manifest_terms import DataTerms, PrivacyTerms
from p2pfl.learning.code_lines import FILE
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.errors import PlanRefused, PrivacyRefused
from p2pfl.learning.plans.arguments import TRAINING, Arguments, Scalar, checked
from p2pfl.learning.plans.code_declared import Declared, declared_in, refused_at
from p2pfl.learning.plans.options import check_options
from p2pfl.learning.scoring import Score
from p2pfl.learning.vector import Schema, Vector
from p2pfl.plan import Inputs

if TYPE_CHECKING:
    import torch

KNOWN: Final = TRAINING - {"at_home", "clipping"}
"""Arguments of every plan that a text's training has, too."""
IMAGES_AT_ONCE: Final = 2
"""Patients per step where the study says nothing and images are trained on."""
_MODULE: Final = "plan"


class CodePlan:
    """The class `Plan` of a text, made fit for the trainer. Not for more than one study."""

    def __init__(self, declared: Declared, *, batch_default: int) -> None:
        self.name = CODE_PLAN
        self.batch_default = batch_default
        self._declared = declared
        self._told: Arguments | None = None

    @property
    def measures(self) -> Mapping[str, tuple[float, float]]:
        """What the text says it measures: names and ranges."""
        return self._declared.measures

    @property
    def steerable(self) -> frozenset[str]:
        """Own arguments that may change while a study runs."""
        return self._declared.steerable

    @property
    def own_arguments(self) -> Mapping[str, Scalar]:
        """The text's own arguments and their defaults."""
        return self._declared.arguments

    @property
    def has_step(self) -> bool:
        """Whether it has a training_step of its own."""
        return self._declared.has("training_step")

    def line(self, method: str) -> int:
        """Where a method stands in the text."""
        return self._declared.line(method)

    @property
    def predicts(self) -> bool:
        """Whether it says how likely something is, so that a score has an AUC."""
        return self._declared.has("log_odds")

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the manifest's arguments and fill in defaults. Raises PlanRefused."""
        return checked(written, KNOWN, Arguments(own=self._declared.arguments))

    def check(self, data: DataTerms, arguments: Arguments, privacy: PrivacyTerms) -> None:
        """Raises PlanRefused, PrivacyRefused."""
        check_options(self.name, arguments, privacy)
        if privacy.clips_patients and self.has_step:
            raise PrivacyRefused(
                f"{FILE} has a training_step of its own, in which no single patient's share can be "
                'clipped: write loss instead, or protect whole updates with unit = "site"'
            )

    def check_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Refuse to steer what the text does not say may change. Raises PlanRefused."""
        for name in ranges:
            if name in self._declared.arguments and name not in self.steerable:
                raise PlanRefused(
                    f'argument "{name}" has a range, but {FILE} does not name it in steerable: it '
                    "may shape the model"
                )

    def schema(self, data: DataTerms, arguments: Arguments) -> Schema:
        """The tensors that are trained, as the model names them."""
        from p2pfl.learning.flat_model import trained_schema

        return trained_schema(self.module(data, arguments))

    def initial(self, data: DataTerms, arguments: Arguments, seed: int) -> Vector:
        """As the text starts its model, with torch under the study's seed. Returns float32[d]."""
        import torch

        from p2pfl.learning.flat_model import trained_schema
        from p2pfl.learning.vector import flatten

        torch.manual_seed(seed)
        module = self.module(data, arguments)
        trained = {
            name: one.detach().numpy()
            for name, one in module.named_parameters()
            if one.requires_grad
        }
        return flatten(trained, trained_schema(module))

    def module(self, data: DataTerms, arguments: Arguments) -> torch.nn.Module:
        """The text's model, which does its transform first. Raises PlanRefused."""
        from p2pfl.learning.plans.code_model import checked_model, with_transform

        self._tell(arguments)
        declared = self._declared
        made = declared.call("model", inputs_of(data), declared.instance.arguments)
        module = checked_model(made, declared.line("model"))
        return with_transform(module, declared.method("transform"))

    def loss_sum(
        self, outputs: torch.Tensor, target: torch.Tensor, arguments: Arguments
    ) -> torch.Tensor:
        """The text's losses added up. Raises PlanRefused unless there is one for each patient."""
        return self.losses(outputs, target, arguments).sum()

    def losses(self, outputs: Any, target: torch.Tensor, arguments: Arguments) -> torch.Tensor:
        """The text's loss of each patient, float[n]. Raises PlanRefused."""
        from p2pfl.learning.plans.code_model import checked_losses

        self._tell(arguments)
        losses = self._declared.call("loss", outputs, target)
        return checked_losses(losses, len(target), self._declared.line("loss"))

    def step_loss(
        self,
        module: torch.nn.Module,
        inputs: tuple[torch.Tensor, ...],
        target: torch.Tensor,
        arguments: Arguments,
    ) -> torch.Tensor | None:
        """A batch's loss by the text's own training_step, or None where it has none."""
        from p2pfl.learning.plans.code_model import checked_step

        if not self.has_step:
            return None
        self._tell(arguments)
        loss = self._declared.call("training_step", module, inputs, target)
        return checked_step(loss, self._declared.line("training_step"))

    def score(self, module: torch.nn.Module, on: Patients, arguments: Arguments) -> Score:
        """Loss and what the text measures; AUC and accuracy where it has log_odds."""
        from p2pfl.learning.plans.code_score import code_score

        return code_score(self, module, on, arguments)

    def metrics(self, outputs: Any, target: torch.Tensor) -> Mapping[str, float]:
        """What the text measures of a batch, as it declared it. Raises PlanRefused."""
        if not self._declared.has("metrics"):
            return {}
        return self._declared.checked_metrics(self._declared.call("metrics", outputs, target))

    def log_odds(self, outputs: Any) -> torch.Tensor:
        """The text's own. Raises PlanRefused where it has none."""
        from p2pfl.learning.plans.code_model import checked_odds

        if not self.predicts:
            raise PlanRefused(f"{FILE} has no log_odds: it predicts no yes or no")
        odds = self._declared.call("log_odds", outputs)
        return checked_odds(odds, self._declared.line("log_odds"))

    def _tell(self, arguments: Arguments) -> None:
        """Let the text see the arguments that are in force."""
        if arguments is self._told:
            return
        shipped = {name: getattr(arguments, name) for name in sorted(KNOWN)}
        in_force = types.MappingProxyType({**shipped, **arguments.own})
        self._declared.instance.arguments = in_force
        self._told = arguments


def code_plan(text: str, *, has_images: bool = False) -> CodePlan:
    """Run a text and take its `Plan`. Only in a confined process. Raises PlanRefused."""
    module = _run(text)
    declared = declared_in(module)
    for name in declared.arguments:
        if name in TRAINING:
            raise PlanRefused(
                f'{FILE}: the argument "{name}" is one that every plan has: leave it out'
            )
    return CodePlan(declared, batch_default=IMAGES_AT_ONCE if has_images else 0)


def inputs_of(data: DataTerms) -> Inputs:
    """What a text is told of the study's data."""
    from p2pfl.learning.datasets.tabular import feature_names

    images = data.images
    return Inputs(
        columns=tuple(feature_names(data.columns)),
        target="" if data.target is None else data.target.words,
        channels=0 if images is None else images.channels,
        window=() if images is None else images.window,
        regions=() if images is None else tuple(region.name for region in images.regions),
    )


@functools.lru_cache(maxsize=1)
def compiled(text: str) -> types.CodeType:
    """A text as code that was not run. Raises PlanRefused with the line of a mistake.

    Text in, not bytes: a line that declares another encoding means nothing to the compiler then.
    """
    try:
        return compile(text, FILE, "exec", dont_inherit=True, optimize=0)
    except SyntaxError as error:
        raise PlanRefused(f"{FILE} line {error.lineno or 1}: {error.msg}") from None
    except (RecursionError, MemoryError, ValueError, OverflowError):
        raise PlanRefused(f"{FILE}: nested too deeply to be compiled") from None


def _run(text: str) -> types.ModuleType:
    module = types.ModuleType(_MODULE)
    module.__file__ = FILE
    # Dataclasses and the like look their module up by its name.
    sys.modules[_MODULE] = module
    code = compiled(text)
    try:
        exec(code, module.__dict__)  # noqa: S102 - this process exists to run it, confined
    except Exception as error:
        raise refused_at(error, "cannot be loaded") from None
    return module


def _memoised() -> Callable[[str, bool], CodePlan]:
    known: dict[bytes, CodePlan] = {}

    def plan(text: str, has_images: bool) -> CodePlan:
        key = hashlib.sha256(text.encode() + bytes([has_images])).digest()
        if key not in known:
            known.clear()
            known[key] = code_plan(text, has_images=has_images)
        return known[key]

    return plan


same_code_plan: Final = _memoised()
"""`code_plan`, but a text that ran last in this process is not run again."""
