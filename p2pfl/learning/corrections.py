"""What local steps correct where sites have different patients: drift, and forgetting.

Responsible for the arithmetic alone. Everything is elementwise, so the same code serves one site's
vector (float32[d]) and many sites' at once (float32[n, d], in simulations). Nothing here looks at
patients: it uses models that were published or received, so differential privacy loses nothing.

  quasi-global   m̂ ← β·m̂ + (1−β)·(base before − base)/(Σ η); each round's momentum starts from m̂,
                 the direction in which the consortium moves. Source: Lin et al. 2021, QG-DSGDm.
  control        g + c − c_i, with c_i ← c_i − c + (base − trained)/(Σ η), what own training wants,
                 and c = (base before − base)/(Σ η), what came of everybody's. On a complete graph
                 that is SCAFFOLD's option II (Karimireddy et al. 2020), and c needs no message:
                 the average that arrives anyway contains it. Elsewhere c is the neighbourhood's.
  consolidation  g + λ·F/(1 + η·λ·F)·(θ − θ*): elastic weight consolidation around the model that
                 the study started from, stable for every λ. Source: Kirkpatrick et al. 2017.
"""

from __future__ import annotations

import torch

from p2pfl.learning.plans.arguments import Arguments

Memory = dict[str, torch.Tensor]
"""What outlives a round: each tensor has the leading shape of the values."""


class Corrections:
    """Adds to gradients what this site's past rounds suggest.

    memory: shared with the optimizer that takes the steps.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._base: torch.Tensor | None = None
        self._anchor: torch.Tensor | None = None
        self._importance: torch.Tensor | None = None

    def consolidate(self, anchor: torch.Tensor, importance: torch.Tensor) -> None:
        """Hold on to a model. anchor, importance (Fisher information): float[…, d]."""
        self._anchor, self._importance = anchor, importance

    def begin_round(
        self, arguments: Arguments, base: torch.Tensor, follows: torch.Tensor, rate: float
    ) -> None:
        """Take a round's base in. base: float[…, d].

        follows: bool[…, 1], whether this site trained the round before: if not, what the base says
        of that round is unknown. rate: Σ η over the round's steps.
        """
        self._base = base.clone() if arguments.correction != "none" or arguments.proximal else None
        if arguments.correction == "none" or self._base is None:
            return
        moved = torch.zeros_like(base)
        if "base" in self._memory:
            travelled = self._memory["travelled"]
            moved = torch.where(follows, (self._memory["base"] - base) / travelled, moved)
        if arguments.correction == "quasi-global":
            self._lead(arguments.momentum, moved, follows)
        else:
            self._memory["shared"] = torch.where(follows, moved, self._kept("shared", base))
            self._memory["own"] = self._kept("own", base)
        self._memory["base"] = self._base
        self._memory["travelled"] = torch.full_like(base[..., :1], rate)

    def _lead(self, momentum: float, moved: torch.Tensor, follows: torch.Tensor) -> None:
        """Start the local momentum from the consortium's."""
        before = self._kept("leading", moved)
        leading = torch.where(follows, momentum * before + (1.0 - momentum) * moved, before)
        self._memory["leading"] = leading
        self._memory["momentum"] = leading.clone()

    def _kept(self, name: str, like: torch.Tensor) -> torch.Tensor:
        found = self._memory.get(name)
        return torch.zeros_like(like) if found is None else found

    def add_to(
        self,
        gradient: torch.Tensor,
        values: torch.Tensor,
        arguments: Arguments,
        learning_rate: float,
    ) -> None:
        """Correct one step's gradient in place. gradient, values: float[…, d]."""
        if arguments.proximal and self._base is not None:
            gradient.add_(values - self._base, alpha=arguments.proximal)
        if arguments.correction == "control":
            gradient.add_(self._memory["shared"] - self._memory["own"])
        if arguments.consolidation and self._anchor is not None and self._importance is not None:
            stiffness = arguments.consolidation * self._importance
            # As an implicit step takes it: η·stiffness beyond 2 would swing ever farther.
            gradient.add_(stiffness / (1.0 + learning_rate * stiffness) * (values - self._anchor))

    def end_round(self, arguments: Arguments, values: torch.Tensor) -> None:
        """The round's steps are taken. values: float[…, d], finite."""
        if arguments.correction != "control" or self._base is None:
            return
        own, shared = self._memory["own"], self._memory["shared"]
        wanted = (self._base - values) / self._memory["travelled"]
        self._memory["own"] = own - shared + wanted

    def forget(self) -> None:
        """What was learnt in earlier rounds is void; what is held on to is not."""
        for name in ("base", "travelled", "leading", "shared", "own"):
            self._memory.pop(name, None)
