"""[code]: what people read is what runs, and it stands beside its own hash."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ops_manifests import PLAN, PRIVACY, STUDY, rendered

from p2pfl.core import errors
from p2pfl.core.manifest import NO_PRIVACY, PrivacyTerms, parse_manifest
from p2pfl.core.manifest_code import (
    LINE_CHARACTERS_MAX,
    TEXT_BYTES_MAX,
    CodeTerms,
    text_digest,
    text_problem,
)

TEXT = """\
import torch

# A backslash \\ and two quotes '' stay what they are: \\n
class Plan:
    pass
"""
CODE = CodeTerms(
    TEXT, text_digest(TEXT), {"torch": "2.13.0"}, "outside", {"specificity": (0.0, 1.0)}
)
CODE_PLAN = replace(PLAN, name="code")
BY_UPDATE = replace(PRIVACY, unit="site", sampling="full", sampling_rate=1.0, steps_per_round=1)


def coded(code: CodeTerms = CODE, privacy: PrivacyTerms = PRIVACY) -> bytes:
    return rendered(plan=CODE_PLAN, code=code, privacy=privacy)


def test_the_text_comes_back_as_it_was_written() -> None:
    manifest = parse_manifest(coded())
    assert manifest.code == CODE
    assert TEXT.encode() in manifest.raw, "people read the same lines in the manifest"


@pytest.mark.parametrize("size", [2, 24 * 1024])
def test_texts_of_any_allowed_size_fit_a_manifest(size: int) -> None:
    text = "#" * min(100, size - 1) + "\n"
    text = (text * (size // len(text) + 1))[: size - 1].rstrip("\n") + "\n"
    code = replace(CODE, text=text, sha256=text_digest(text))
    manifest = parse_manifest(coded(code))
    assert manifest.code is not None
    assert manifest.code.text == text


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "empty"),
        ("  \n\n", 1, "empty"),
        ("x = 1\ny = 2", 2, "no end"),
        ("x = 1\n# \u202e nothing to see\n", 2, "U+202E"),
        ("x = 1\r\n", 1, "U+000D"),
        ("# harmless\rimport os\n", 1, "U+000D"),
        ("if x:\n\ty = 1\n", 2, "U+0009"),
        ("x = '\x1b[2J'\n", 1, "U+001B"),
        ("x = 1\x00\n", 1, "U+0000"),
        ("\u0435val = 1\n", 1, "U+0435"),
        ("x = 1\x0cimport os\n", 1, "U+000C"),
        ("x = '''y'''\n", 1, "three single quotes"),
        ("x = 1" + " " * LINE_CHARACTERS_MAX + "; import os\n", 1, "at most 120"),
        ("#" * 99 + "\n" + ("#" * 99 + "\n") * (TEXT_BYTES_MAX // 100), 1, "at most 24576"),
    ],
)
def test_text_that_could_read_otherwise_than_it_runs_is_refused(
    text: str, line: int, what: str
) -> None:
    problem = text_problem(text)
    assert problem.startswith(f"line {line}: ")
    assert what in problem


def test_one_changed_byte_is_not_the_text_that_was_hashed() -> None:
    raw = coded().replace(b"    pass\n", b"    past\n")
    with pytest.raises(errors.Inconsistent, match=r"code\.sha256 is not the text's"):
        parse_manifest(raw)


def test_bidirectional_text_in_a_manifest_is_refused() -> None:
    raw = coded().replace(b"    pass\n", "    pass  # \u2066\n".encode())
    with pytest.raises(errors.Inconsistent, match=r"code\.text is refused: line 5: .* U\+2066"):
        parse_manifest(raw)


def test_text_goes_with_plan_code_and_with_no_other() -> None:
    with pytest.raises(errors.MissingKey, match=r"section \[code\]"):
        parse_manifest(rendered(plan=CODE_PLAN))
    with pytest.raises(errors.Inconsistent, match=r'goes with plan\.name = "code"'):
        parse_manifest(rendered(code=CODE))


def test_where_gradients_are_clipped_is_written_exactly_where_some_are() -> None:
    bare = replace(CODE, gradients="")
    assert parse_manifest(coded(bare, NO_PRIVACY)).code == bare
    assert parse_manifest(coded(bare, BY_UPDATE)).code == bare
    with pytest.raises(errors.MissingKey, match=r'code\.gradients is missing: write "outside"'):
        parse_manifest(coded(bare))
    for privacy in (NO_PRIVACY, BY_UPDATE):
        with pytest.raises(errors.Inconsistent, match=r"code\.gradients means nothing"):
            parse_manifest(coded(CODE, privacy))


def test_large_models_are_told_the_way_out() -> None:
    large = replace(STUDY, parameters=1_000_001)
    inside = replace(CODE, gradients="inside")
    assert parse_manifest(rendered(study=large, plan=CODE_PLAN, code=inside)).code == inside
    with pytest.raises(errors.Inconsistent, match='write unit = "site"'):
        parse_manifest(rendered(study=large, plan=CODE_PLAN, code=CODE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'packages = { torch = "2.13.0" }\n', b""),
        (b'torch = "2.13.0"', b"torch = 2"),
        (b'torch = "2.13.0"', b'torch = "2.13\\u001b[2J"'),
        (b'torch = "2.13.0"', b'"to rch" = "2.13.0"'),
        (b"packages = {", b"packages = { a = { b = 1 }, "),
        (b"[0.0, 1.0]", b"[1.0, 0.0]"),
        (b"[0.0, 1.0]", b"[0.0, nan]"),
        (b"specificity", b"Specificity"),
        (b'gradients = "outside"', b'gradients = "anywhere"'),
        (b"text = '''", b"txt = '''"),
    ],
)
def test_what_is_not_as_agreed_is_refused(old: bytes, new: bytes) -> None:
    raw = coded()
    assert raw.count(old) == 1
    with pytest.raises(errors.ManifestError):
        parse_manifest(raw.replace(old, new))
