"""Pictures of a simulated study, to be looked at by people."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulations.lab.play import Played

LINES_MAX: Final = 60
"""More sites than this are drawn as a band."""
BLUE, RED, GREY = "#1f5f8b", "#b5342b", "#7a7a7a"


def draw(path: Path, played: Played) -> None:
    """Accuracy per site over rounds with the worst site, consensus distance, and traffic; a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = _scores(played)
    rounds = np.arange(scores.shape[1])
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    if len(scores) <= LINES_MAX:
        left.plot(rounds, scores.T, color=GREY, alpha=0.35, linewidth=0.8)
    else:
        low, high = np.nanpercentile(scores, [5, 95], axis=0)
        left.fill_between(rounds, low, high, color=GREY, alpha=0.3, label="5 % to 95 % of sites")
    left.plot(rounds, np.nanmean(scores, axis=0), color=BLUE, linewidth=2, label="mean")
    left.plot(rounds, np.nanmin(scores, axis=0), color=RED, linewidth=1.5, label="worst site")
    left.set(title="Accuracy on own hold-outs", xlabel="round", ylabel="accuracy", ylim=(0, 1.02))
    left.legend(loc="lower right", frameon=False)
    known = played.records.rounds
    distances = [max(played.records.consensus_distance(r), 1e-12) for r in known]
    middle.semilogy(known, distances, color=BLUE, linewidth=2)
    middle.axvspan(
        played.scenario.rounds - 0.5, played.scenario.rounds_total - 0.5, color=GREY, alpha=0.15
    )
    middle.set(title="Distance from consensus (grey: mixing only)", xlabel="round")
    honest = played.scenario.sites - played.scenario.attack.sites
    megabytes = np.array(played.bytes_out[:honest]) / 1e6
    right.hist(megabytes, bins=min(30, max(5, honest // 3)), color=BLUE)
    right.set(title="Traffic", xlabel="MB sent by a site", ylabel="sites")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_title(played), fontsize=11)
    figure.savefig(path, dpi=110)


def draw_sweep(path: Path, labels: list[str], means: list[float], worsts: list[float]) -> None:
    """Each cell's mean and worst accuracy, one bar per cell; a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.32 * len(labels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = np.arange(len(labels))[::-1]
    axes.barh(places, means, color=BLUE, height=0.6, label="mean of sites")
    axes.plot(worsts, places, "o", color=RED, label="worst site")
    axes.set(yticks=places, yticklabels=labels, xlim=(0, 1.02), xlabel="accuracy on own hold-outs")
    axes.set_ylim(-0.8, len(labels) - 0.2)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def _scores(played: Played) -> NDArray[np.float64]:
    """Accuracy, float64[honest sites, rounds]; NaN where a site has none."""
    scores = np.full((played.scenario.sites, played.scenario.rounds_total), np.nan)
    for row in played.records.rows:
        scores[row.site, row.round] = row.accuracy
    honest = played.scenario.sites - played.scenario.attack.sites
    known = scores[:honest]
    return known[:, ~np.isnan(known).all(axis=0)]


def _title(played: Played) -> str:
    terms = played.scenario
    attack = f", {terms.attack.sites} × {terms.attack.kind}" if terms.attack.sites else ""
    return (
        f"{terms.name}: {terms.sites} sites, {terms.averaging.rule} on {terms.averaging.topology}"
        f"{attack}, seed {terms.seed}"
    )
