"""The parts of the page that need no browser, run by Node's own test runner."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "node"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.test.mjs")), ids=lambda file: file.name)
def test_a_module_of_the_page_keeps_its_promises(file: Path) -> None:
    """Each file is a suite of its own; its report is the failure's message."""
    node = shutil.which("node")
    if node is None:
        reason = "no `node` on the PATH"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    run = subprocess.run([node, "--test", str(file)], capture_output=True, text=True, timeout=60, check=False)

    assert 0 == run.returncode, run.stdout + run.stderr
