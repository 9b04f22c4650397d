"""`p2pfl model show`: released statistics and metrics in words and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from p2pfl.cli.context import (
    JsonOption,
    opened_home,
    say,
    say_fields,
    say_json,
    say_table,
    say_wrapped,
    short,
)

if TYPE_CHECKING:
    from p2pfl.runtime.commands.counts import CountsSeen


def show(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Beginning of the study's id, 6 digits +.")],
    json: JsonOption = False,
) -> None:
    """Statistics or metrics that all sites of a study counted together."""
    from p2pfl.runtime.commands import counts

    found = counts.released_counts(opened_home(context), study)
    if json:
        say_json(found)
        return
    say(f"{found.name} ({short(found.study)}, {short(found.hash)})")
    # The counting process of this version answers as its module says.
    report = cast("dict[str, Any]", found.report)
    say_fields([("patients", _count(report["patients"], report["noise"])), *_privacy(found)])
    say()
    if report["kind"] == "statistics":
        _say_columns(report["columns"])
    else:
        _say_metrics(report)


def _count(patients: float, noise: float) -> str:
    if not noise:
        return f"{patients:.0f}"
    return f"about {patients:.0f} (noise of every count: ±{2 * noise:.0f})"


def _privacy(found: CountsSeen) -> list[tuple[str, str]]:
    if not found.epsilon:
        return [("privacy", "NONE: exact sums")]
    return [("privacy", f"ε = {found.epsilon:.3f} at δ = {found.delta} for the patients here")]


def _say_columns(columns: list[dict[str, Any]]) -> None:
    numbers = [column for column in columns if "mean" in column]
    if numbers:
        header = ("column", "patients", "mean", "deviation", "5 %", "median", "95 %")
        say_table(
            header,
            [
                (
                    column["name"][:20],
                    f"{column['present']:.0f}",
                    f"{column['mean']:.4g}",
                    f"{column['deviation']:.4g}",
                    *(_number(column["quantiles"][share]) for share in ("0.05", "0.5", "0.95")),
                )
                for column in numbers
            ],
        )
    unusable = [column["unusable"] for column in columns if "unusable" in column]
    if unusable:
        say_wrapped(
            f"{len(unusable)} of {len(columns)} columns say nothing; the first: {unusable[0]}. "
            "A study with a larger ε, fewer columns or more patients may; they cannot be used to "
            "standardise."
        )
    for column in columns:
        if "counts" in column:
            pairs = zip(column["categories"], column["counts"], strict=True)
            listed = ", ".join(f"{code:g}: {count:.0f}" for code, count in pairs)
            say(f"{column['name']}: {listed} (of {column['present']:.0f} patients)")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _say_metrics(report: dict[str, Any]) -> None:
    say_fields([(name, f"{value:.3f}") for name, value in sorted(report["measures"].items())])
    if report.get("calibration"):
        say()
        say_table(
            ("predicted", "observed", "patients"),
            [
                (f"{row['predicted']:.2f}", f"{row['observed']:.2f}", f"{row['patients']:.0f}")
                for row in report["calibration"]
            ],
        )
