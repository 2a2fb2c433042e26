"""The README's blocks of code as they stand: for tests that type what a reader types."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def shell_loop(url: str) -> str:
    """The loop that tails a job, for a server there and with a shorter rest. It wants TOKEN, JOB and a folder of its own."""
    return blocks("sh")[2].replace("http://127.0.0.1:8000", url).replace("sleep 1", "sleep 0.1")
