"""Draws docs/first-run.svg, the README's picture: what `make demo ARGS=--once` really says here, paths shortened.

python -m docs.first_run
"""

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "first-run.svg"
COMMAND = "make demo ARGS=--once"
WIDTH = 120


def said() -> str:
    """What the demo tells on standard output, on the small extract and from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "demo"
        order = [sys.executable, "-m", "jobsd", "demo", "--once", "--fresh", "--folder", str(place)]
        output = subprocess.run(order, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        return output.replace(str(place), ".jobsd/demo").replace(f"{ROOT}/", "")


def draw(output: str) -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text(f"$ {COMMAND}", style="bold"))
    text = Text(output.rstrip("\n"), no_wrap=True, overflow="ellipsis")
    text.highlight_regex(r"(?m)^  ok ", "bold green")
    text.highlight_regex(r"https?://\S+|postgresql://\S+", "cyan")
    text.highlight_regex(r"(?m)^  NEXT .*$", "bold")
    console.print(text)
    svg = console.export_svg(title="jobsd", theme=MONOKAI, unique_id="first-run")
    alone = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # a picture fetches nothing
    PICTURE.write_text(re.sub(r"[ \t]+\n", "\n", alone.replace("Fira Code", "ui-monospace")), encoding="utf-8")


if __name__ == "__main__":
    draw(said())
