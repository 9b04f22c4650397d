"""What the documents say exists: files, links, commands, options, exit codes, tests, outputs."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from docs_blocks import DOCUMENTS, ROOT, blocks, command_lines, named
from typer.main import get_command

from ledger.log import ExitCode
from p2pfl.averaging import RULES
from p2pfl.cli import main as cli
from p2pfl.core.manifest import parse_data_section
from p2pfl.learning.demo_terms import HEART_TERMS
from p2pfl.runtime import errors
from p2pfl.runtime.policy import Policy, render_policy

PER_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=named)
TOPS = (
    "docs",
    "examples",
    "gossip",
    "ledger",
    "p2pfl",
    "scripts",
    "simulations",
    "tests",
    "docker",
)


# -- links and files ------------------------------------------------------------------------------


def anchors(document: Path) -> set[str]:
    """The anchors that a page's headings get: lower case, spaces to dashes, signs dropped."""
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@PER_DOCUMENT
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        page = (document.parent / path).resolve() if path else document
        assert page.exists(), target
        if anchor:
            assert anchor in anchors(page), target


@PER_DOCUMENT
def test_files_of_the_repository_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:{})/[^`\s<>]*)`".format("|".join(TOPS)), text):
        assert list(ROOT.glob(name)) or (ROOT / name).exists(), name


@PER_DOCUMENT
def test_no_place_of_one_machine_is_named(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert re.findall(r"/(?:work|root|tmp)/\S+|localhost:\d+/simple", text) == []


# -- commands -------------------------------------------------------------------------------------


def known(words: list[str]) -> tuple[typer.core.TyperCommand | None, list[str]]:
    """The command that these words call, and what follows it."""
    group = get_command(cli.app)
    context = group.make_context("p2pfl", ["version"])
    rest = list(words)
    while rest and rest[0].startswith("--"):  # options of the program itself, each with a value
        assert rest[0] == "--home", rest[0]
        rest = rest[2:]
    command = group
    while rest and hasattr(command, "get_command"):
        found = command.get_command(context, rest[0])
        if found is None:
            return None, rest
        command, rest = found, rest[1:]
    return command, rest


def alternatives(words: list[str]) -> Iterator[list[str]]:
    """`roster create|sign` stands for two commands."""
    if any("|" in word for word in words):
        at = next(i for i, word in enumerate(words) if "|" in word)
        for each in words[at].split("|"):
            yield from alternatives([*words[:at], each, *words[at + 1 :]])
    else:
        yield words


def wrong_in(words: list[str]) -> list[str]:
    """What of a command line does not exist: the command itself, or its options."""
    command, rest = known(words)
    if command is None:
        return [" ".join(words)]
    options = {name for option in command.params for name in option.opts + option.secondary_opts}
    given = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return [f"{' '.join(words)}: {one}" for one in given if one not in options | {"--help"}]


ABSENT = {"roster add"}
"""What README, ARCHITECTURE and operating.md say is not there."""


@PER_DOCUMENT
def test_commands_and_options_that_are_named_exist(document: Path) -> None:
    wrong = []
    for line in command_lines(document):
        for words in alternatives(line):
            if words and words[0] not in ("--help", "--install-completion", "…"):
                wrong += wrong_in(words)
    assert wrong == []


@PER_DOCUMENT
def test_command_lines_can_be_typed(document: Path) -> None:
    for block in blocks(document):
        if block.language == "sh":
            shlex.split(block.text, comments=True)


def test_what_is_said_to_be_missing_is_missing() -> None:
    there = [name for name in ABSENT if known(name.split())[0] is not None]
    assert there == [], "now it exists: say so in the documents, and take it out of ABSENT"


# -- tables ---------------------------------------------------------------------------------------


def test_the_table_of_exit_codes_is_the_codes() -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    table = text.partition("<!-- table: exit codes -->")[2].partition("\n\n")[0]
    written = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    modules = (errors, cli)
    constants = {
        value for m in modules for name, value in vars(m).items() if name.startswith("EXIT_")
    }
    assert written == constants | {int(code) for code in ExitCode}


def test_every_averaging_rule_is_described() -> None:
    text = (ROOT / "docs" / "averaging.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`([a-z_]+)", row)}
    assert described >= {"nnm", *(rule.removeprefix("nnm+") for rule in RULES)}


def test_the_policy_table_is_the_policy() -> None:
    text = (ROOT / "docs" / "governance.md").read_text(encoding="utf-8")
    table = text.partition("| key | default | meaning |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE)) == set(
        tomllib.loads(render_policy(Policy()).decode())
    )


def test_every_test_that_the_threat_model_and_confinement_cite_exists() -> None:
    documents = ("threat-model.md", "confinement.md")
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in documents)
    cited = set(re.findall(r"`(test_\w+)`", text))
    there = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(cited) > 60
    assert sorted(cited - there) == []


# -- outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["protocol_example.py", "entry_kinds.py"])
def test_what_the_protocol_shows_is_what_the_code_makes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    runpy.run_path(str(ROOT / "scripts" / name))["main"]()
    document = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    shown = f"<!-- output: scripts/{name} -->\n```text\n{capsys.readouterr().out.strip()}"
    assert shown in document


def test_the_readme_quotes_the_demonstration_word_for_word() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = re.findall(r"<!-- excerpt: demo -->\n```text\n(.*?)```", readme, re.DOTALL)
    printed = (ROOT / "docs" / "images" / "demo.txt").read_text(encoding="utf-8")
    assert quoted
    assert [one for one in quoted if one not in printed] == []


def test_the_demonstration_still_prints_these_headings() -> None:
    """The kept output ages; its fixed lines must be those of today's code."""
    source = "".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "p2pfl/cli").glob("demo*.py"))
    )
    printed = (ROOT / "docs" / "images" / "demo.txt").read_text(encoding="utf-8")
    for line in printed.splitlines():
        if line.startswith(("AUC ", "hospital  ", "alone:", "The nodes have stopped", "Auditing")):
            assert line in source, line


def test_the_picture_shows_the_kept_output_and_fetches_nothing() -> None:
    text = (ROOT / "docs" / "images" / "demo.svg").read_text(encoding="utf-8")
    tree = xml.fromstring(text)  # noqa: S314 - our own file
    assert tree.tag.endswith("svg")
    assert set(re.findall(r"https?://[^\"' )]+", text)) == {"http://www.w3.org/2000/svg"}
    assert len(text) < 64_000


# -- examples -------------------------------------------------------------------------------------


def test_the_heart_disease_schema_is_that_of_the_demonstration() -> None:
    raw = (ROOT / "examples" / "heart-disease" / "data.toml").read_bytes()
    assert parse_data_section(raw) == HEART_TERMS
