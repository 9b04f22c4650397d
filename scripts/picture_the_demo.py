"""Run the demonstration and keep what it printed: docs/images/demo.txt, and demo.svg made from it.

    .venv/bin/python scripts/picture_the_demo.py

The README quotes demo.txt; a test checks that it quotes it word for word. Run this again when the
demonstration prints something else.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
COLUMNS = 80

# No @font-face: the picture must not fetch anything from anywhere.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def demonstrate() -> str:
    """The output of `p2pfl demo --keep --home demo-homes`, as a person sees it when it is piped."""
    beside = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{beside}:{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        finished = subprocess.run(  # noqa: S603 - our own program, as its user starts it
            [str(beside / "p2pfl"), "demo", "--keep", "--home", "demo-homes"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            sys.exit(f"the demonstration failed:\n{finished.stdout}{finished.stderr}")
        return finished.stdout.replace(f"{Path(folder).resolve()}/", "")


def excerpt(output: str) -> list[str]:
    """The last progress of each hospital, and the tables: what fits into one picture."""
    lines = output.splitlines()
    started = next(i for i, line in enumerate(lines) if "nodes start, each as" in line)
    stopped = next(i for i, line in enumerate(lines) if line.startswith("The nodes have stopped"))
    hospitals = [line for line in lines[started:stopped] if line.startswith("hospital-")]
    sites = len({line.split()[0] for line in hospitals})
    return ["$ p2pfl demo --keep --home demo-homes", "…", *hospitals[-sites:], *lines[stopped:]]


def picture(lines: list[str]) -> str:
    """A terminal with these lines, as SVG."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        for line in lines:
            bold = line.startswith(("$", "AUC ", "hospital  "))
            console.print(Text(line, style="bold" if bold else ""))
        return console.export_svg(title="p2pfl demo", code_format=SVG, unique_id="demo")


def main() -> None:
    """Write both files."""
    output = demonstrate()
    (IMAGES / "demo.txt").write_text(output, encoding="utf-8")
    (IMAGES / "demo.svg").write_text(picture(excerpt(output)), encoding="utf-8")
    print(f"written: {IMAGES / 'demo.txt'} and demo.svg")


if __name__ == "__main__":
    main()
