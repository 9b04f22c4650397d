"""Pictures of segmentation for people: outlines on slices, and Dice over the rounds.

matplotlib without a screen, in processes of learning only. Overlays show patients: they stay at
the site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

COLOURS: Final = ("#f2c14e", "#e4572e", "#4cc9f0", "#80ed99")
"""Of regions, the outer ones first; told apart by most people who see colours differently."""
TILE_INCHES: Final = 1.9


@dataclass(frozen=True, slots=True)
class Overlay:
    """One patient: image float32[x, y, z], and by name bool[regions, x, y, z]."""

    title: str
    image: NDArray[np.float32]
    marked: Mapping[str, NDArray[np.bool_]]
    aspect: float = 1.0
    """Millimetres along y by millimetres along x."""


def draw_overlays(path: Path, overlays: Sequence[Overlay], regions: Sequence[str] = ()) -> None:
    """A row for each patient, a column for each way of marking. Raises OSError.

    regions: names that say below the pictures which colour is which.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names = list(overlays[0].marked)
    size = (TILE_INCHES * len(names) + 0.4, TILE_INCHES * len(overlays) + 0.3)
    figure = Figure(figsize=size, facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(overlays),
        len(names),
        squeeze=False,
        gridspec_kw={"wspace": 0.04, "hspace": 0.04},
    )
    for row, overlay in enumerate(overlays):
        first = next(iter(overlay.marked.values()))
        height = _shown_slice(first)
        for column, name in enumerate(names):
            tile = axes[row][column]
            tile.set_xticks([])
            tile.set_yticks([])
            shown = overlay.image[:, :, height].T
            tile.imshow(shown, cmap="gray", origin="lower", aspect=overlay.aspect)
            if row == 0:
                tile.set_title(name, color="white", fontsize=9)
            if column == 0:
                tile.set_ylabel(overlay.title, color="white", fontsize=9)
            for region, colour in zip(overlay.marked[name], COLOURS, strict=False):
                if region[:, :, height].any() and not region[:, :, height].all():
                    tile.contour(
                        region[:, :, height].T, levels=[0.5], colors=[colour], linewidths=1.1
                    )
    if regions:
        marks = [
            Line2D([], [], color=colour, label=name)
            for name, colour in zip(regions, COLOURS, strict=False)
        ]
        figure.legend(
            handles=marks,
            loc="upper center",
            bbox_to_anchor=(0.5, 0.08),
            ncols=2,
            frameon=False,
            labelcolor="white",
            fontsize=8,
        )
    figure.savefig(path, dpi=120, facecolor="black", bbox_inches="tight")


def _shown_slice(marked: NDArray[np.bool_]) -> int:
    """Where most is marked, the middle where nothing is. marked: bool[regions, x, y, z]."""
    per_slice = marked.any(axis=0).sum(axis=(0, 1))
    return int(np.argmax(per_slice)) if per_slice.any() else len(per_slice) // 2


def draw_curves(
    path: Path,
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    levels: Mapping[str, float],
) -> None:
    """Dice of each round: a thin line per site, the mean thick; levels as dashed lines.

    Raises OSError.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, sites), colour in zip(curves.items(), ("#1d6996", "#cc503e"), strict=False):
        for values in sites.values():
            axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=0.7, alpha=0.35)
        shortest = min(len(values) for values in sites.values())
        mean = np.mean([values[:shortest] for values in sites.values()], axis=0)
        axes.plot(range(1, shortest + 1), mean, color=colour, linewidth=2.2, label=name)
    for (name, level), style in zip(levels.items(), (":", "--"), strict=False):
        axes.axhline(level, color="#555555", linestyle=style, linewidth=1.2, label=name)
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel("round")
    axes.set_ylabel("Dice on the own hold-out")
    axes.grid(alpha=0.25)
    axes.legend(loc="center right", frameon=False)
    figure.savefig(path, dpi=120, bbox_inches="tight")
