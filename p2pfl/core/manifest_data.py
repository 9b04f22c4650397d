"""Reading [data]: what a site's table or folder of images has to look like.

Responsible for the shape of the section and for contradictions inside it. Which of it a plan needs
is the plan's to say. Must not know files.
"""

from __future__ import annotations

import math
import re
from typing import Final, Literal, cast

from p2pfl.core.errors import Inconsistent, OutOfRange
from p2pfl.core.manifest_table import Table
from p2pfl.core.manifest_terms import (
    CategoryColumn,
    Column,
    DataTerms,
    ImageTerms,
    Intensity,
    NumberColumn,
    Region,
    SurvivalTarget,
    Target,
)

DATA_KEYS: Final = ("kind", "patients_min", "holdout", "target", "columns", "images")
NO_TARGET: Final = "none"
LABEL_MAX: Final = 255
"""Masks are kept as bytes."""
WINDOW_VOXELS_MAX: Final = 1 << 25

_IMAGE_KEYS: Final = (
    "modalities",
    "modalities_min",
    "window",
    "placement",
    "spacing",
    "intensity",
    "intensity_range",
    "regions",
)
_COLUMN: Final = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
_MODALITY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]{0,31}")
_REGION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _+.-]{0,39}")
_VALUE_BOUND: Final = 1e9


def read_data(table: Table) -> DataTerms:
    """The [data] section. Raises ManifestError."""
    kind = cast(Literal["tabular", "images"], table.choice("kind", ("tabular", "images")))
    if kind == "tabular" and table.has("images"):
        raise Inconsistent(table.at("images"), 'means nothing with kind = "tabular"')
    target = _target(table, kind)
    images = _images(table.table("images", _IMAGE_KEYS)) if kind == "images" else None
    columns_min = 1 if kind == "tabular" else 0
    predicted = () if target is None else target.names
    return DataTerms(
        kind=kind,
        patients_min=table.integer("patients_min", 1, 10_000_000),
        holdout=table.number("holdout", 0.0, 0.9),
        target=target,
        columns=_columns(table, predicted, columns_min),
        images=images,
    )


def _target(table: Table, kind: str) -> Target | SurvivalTarget | None:
    """`target = "none"` says that nothing in a table is predicted; images may leave it out."""
    if kind == "images" and not table.has("target"):
        return None
    if table.has("target") and isinstance(table.value("target"), str):
        table.choice("target", (NO_TARGET,))
        return None
    written = table.table("target", ("column", "positive_above", "time", "event"))
    if written.has("time") or written.has("event"):
        for key in ("column", "positive_above"):
            if written.has(key):
                raise Inconsistent(written.at(key), "means nothing beside time and event")
        survival = SurvivalTarget(_column_name(written, "time"), _column_name(written, "event"))
        if survival.time == survival.event:
            raise Inconsistent(written.at("event"), "names the same column as time")
        return survival
    return Target(
        column=_column_name(written, "column"),
        positive_above=written.number("positive_above", -_VALUE_BOUND, _VALUE_BOUND),
    )


def _columns(table: Table, predicted: tuple[str, ...], columns_min: int) -> tuple[Column, ...]:
    if columns_min == 0 and not table.has("columns"):
        return ()
    columns: list[Column] = []
    seen: set[str] = set()
    for path, values in table.rows("columns", count_min=columns_min, count_max=2000):
        column = _column(path, values)
        if column.name in predicted:
            raise Inconsistent(path, f'names "{column.name}", which is the target')
        if column.name in seen:
            raise Inconsistent(path, f'names "{column.name}" a second time')
        seen.add(column.name)
        columns.append(column)
    return tuple(columns)


def _images(table: Table) -> ImageTerms:
    modalities = table.texts(
        "modalities", _MODALITY, "1 to 32 of letters, digits, _ + . -", count_max=16
    )
    if not modalities:
        raise OutOfRange(table.at("modalities"), expected="1 to 16 entries", actual=0)
    if len({name.casefold() for name in modalities}) != len(modalities):
        raise Inconsistent(table.at("modalities"), "has a name twice")
    window = tuple(_window(table))
    spacing = _spacing(table, len(window))
    intensity = cast(Intensity, table.choice("intensity", ("zscore", "range")))
    return ImageTerms(
        modalities=modalities,
        modalities_min=(
            table.integer("modalities_min", 1, len(modalities))
            if table.has("modalities_min")
            else len(modalities)
        ),
        window=window,
        placement=cast(Literal["centre", "patches"], table.choice("placement", _PLACEMENTS)),
        spacing=spacing,
        intensity=intensity,
        intensity_range=_intensity_range(table, intensity),
        regions=_regions(table),
    )


_PLACEMENTS: Final = ("centre", "patches")


def _window(table: Table) -> list[int]:
    sides = []
    for index, side in enumerate(
        table.numbers("window", count_min=2, count_max=3, bound=_VALUE_BOUND)
    ):
        if side != int(side) or not 8 <= side <= 1024:
            place = f"{table.at('window')}[{index}]"
            raise OutOfRange(place, expected="a whole number from 8 to 1024", actual=side)
        sides.append(int(side))
    if math.prod(sides) > WINDOW_VOXELS_MAX:
        raise OutOfRange(
            table.at("window"), expected=f"at most {WINDOW_VOXELS_MAX} voxels", actual=sides
        )
    return sides


def _spacing(table: Table, axes: int) -> tuple[float, ...]:
    if not table.has("spacing"):
        return ()
    spacing = table.numbers("spacing", count_min=axes, count_max=axes, bound=100.0)
    if min(spacing) < 0.01:
        raise OutOfRange(table.at("spacing"), expected="0.01 to 100 mm", actual=min(spacing))
    return spacing


def _intensity_range(table: Table, intensity: Intensity) -> tuple[float, float]:
    if intensity == "zscore":
        if table.has("intensity_range"):
            raise Inconsistent(
                table.at("intensity_range"), 'means nothing with intensity = "zscore"'
            )
        return (0.0, 0.0)
    low, high = table.numbers("intensity_range", count_min=2, count_max=2, bound=_VALUE_BOUND)
    if not low < high:
        raise OutOfRange(table.at("intensity_range"), expected="low below high", actual=[low, high])
    return (low, high)


def _regions(table: Table) -> tuple[Region, ...]:
    if not table.has("regions"):
        return ()
    regions: list[Region] = []
    for path, values in table.rows("regions", count_min=1, count_max=32):
        region = Table(values, path, ("name", "labels"))
        labels = region.numbers("labels", count_min=1, count_max=LABEL_MAX, bound=_VALUE_BOUND)
        for label in labels:
            if label != int(label) or not 1 <= label <= LABEL_MAX:
                raise OutOfRange(
                    region.at("labels"), expected=f"whole numbers 1 to {LABEL_MAX}", actual=label
                )
        if len(set(labels)) != len(labels):
            raise Inconsistent(region.at("labels"), "has a value twice")
        name = region.text("name", _REGION, "1 to 40 of letters, digits, blanks, _ + . -")
        if name in [earlier.name for earlier in regions]:
            raise Inconsistent(region.at("name"), f'"{name}" is used a second time')
        regions.append(Region(name, tuple(int(label) for label in labels)))
    return tuple(regions)


def _column_name(table: Table, key: str) -> str:
    return table.text(key, _COLUMN, "1 to 64 signs, none of them a control sign")


def _column(path: str, values: dict[str, object]) -> Column:
    kind = Table(
        {key: value for key, value in values.items() if key == "type"}, path, ("type",)
    ).choice("type", ("number", "category"))
    if kind == "category":
        table = Table(values, path, ("name", "type", "categories", "missing"))
        categories = table.numbers("categories", count_min=2, count_max=64, bound=_VALUE_BOUND)
        if len(set(categories)) != len(categories):
            raise Inconsistent(table.at("categories"), "has a value twice")
        missing = _missing(table)
        if set(missing) & set(categories):
            raise Inconsistent(table.at("missing"), "has a value that is also a category")
        return CategoryColumn(
            name=_column_name(table, "name"), categories=categories, missing=missing
        )
    table = Table(values, path, ("name", "type", "range", "typical", "missing"))
    low, high = table.numbers("range", count_min=2, count_max=2, bound=_VALUE_BOUND)
    if not low < high:
        raise OutOfRange(table.at("range"), expected="low below high", actual=[low, high])
    return NumberColumn(
        name=_column_name(table, "name"),
        low=low,
        high=high,
        typical=table.number("typical", low, high),
        missing=_missing(table),
    )


def _missing(table: Table) -> tuple[float, ...]:
    if not table.has("missing"):
        return ()
    return table.numbers("missing", count_min=0, count_max=16, bound=_VALUE_BOUND)
