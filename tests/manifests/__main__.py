"""`make manifests`: every overlay built into build/manifests/ and checked; one line each. Exits 1 where something is wrong."""

from __future__ import annotations

import subprocess
import sys

import yaml

from .building import MANIFESTS, OVERLAYS, ROOT, custom_faults, faults, lacks_node, render


def main() -> int:
    target = ROOT / "build" / "manifests"
    target.mkdir(parents=True, exist_ok=True)
    unchecked = lacks_node()
    wrong = [fault for overlay in OVERLAYS for fault in check(overlay, unchecked is None)]
    for fault in wrong:
        print(fault, file=sys.stderr)
    if unchecked is not None:
        print(f"not checked: kinds that are not built in, for there is {unchecked}", file=sys.stderr)
    return 1 if wrong else 0


def check(overlay: str, custom: bool) -> list[str]:
    """The overlay's faults; its text is written where it can be looked at and applied."""
    try:
        text = render(MANIFESTS / "overlays" / overlay)
    except subprocess.CalledProcessError as error:
        return [f"{overlay}: {error.stderr.strip()}"]
    file = ROOT / "build" / "manifests" / f"{overlay}.yaml"
    file.write_text(text)
    objects = list(yaml.safe_load_all(text))
    print(f"{overlay}: {len(objects)} objects in {file.relative_to(ROOT)}")
    return faults(objects) + (custom_faults(objects) if custom else [])


if __name__ == "__main__":
    sys.exit(main())
