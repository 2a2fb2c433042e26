"""Builds what lies in `manifests/` as a cluster would get it, and says what is wrong with it. Reaches no cluster and no network.

What schemas do not know (an admission webhook, a CRD's own rules, whether a storage class exists) is found out by a cluster alone:
`kubectl apply --dry-run=server`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

ROOT: Final = Path(__file__).parents[2]
MANIFESTS: Final = ROOT / "manifests"
OVERLAYS: Final = sorted(path.parent.name for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))
COMPONENTS: Final = sorted(path.parent.name for path in MANIFESTS.glob("components/*/kustomization.yaml"))
#: The oldest that knows all we ask for (preStop's `sleep`), and the newest there are schemas of.
KUBERNETES: Final = ("1.30", "1.37")
SCHEMAS: Final = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
#: Kinds that are not built in, and are checked by `tests/node/custom-resources.mjs`.
CUSTOM: Final = ("gateway.networking.k8s.io/", "monitoring.coreos.com/")
NODE: Final = ROOT / "tests" / "node"

Object = dict[str, Any]


def render(folder: Path) -> str:
    """The objects as YAML, by the kustomize that is in kubectl. Raises CalledProcessError, whose `stderr` says what is wrong."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [str(kubectl), "kustomize", str(folder)]
    env = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent"}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env).stdout


def build(folder: Path) -> list[Object]:
    return list(yaml.safe_load_all(render(folder)))


def combined(place: Path, *components: str) -> Path:
    """A folder with the base and these components, as an overlay has them."""
    base = os.path.relpath(MANIFESTS / "base", place)
    place.joinpath("kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": "progress-stream",
                "resources": [base],
                "components": [
                    os.path.relpath(MANIFESTS / "components" / name, place) for name in components
                ],
            }
        )
    )
    return place


def is_custom(thing: Object) -> bool:
    return str(thing["apiVersion"]).startswith(CUSTOM)


def faults(objects: Iterable[Object]) -> list[str]:
    """What Kubernetes' own schemas say against built-in kinds: unknown fields, wrong types, missing ones."""
    return [
        fault
        for thing in objects
        if not is_custom(thing)
        for version in KUBERNETES
        if (fault := _fault(thing, version))
    ]


def _fault(thing: Object, version: str) -> str | None:
    # apps/v1 → apps-v1, networking.k8s.io/v1 → networking-v1, v1: as the package names its files.
    group = "-".join(part.partition(".")[0] for part in str(thing["apiVersion"]).split("/"))
    schema = _schema(version, f"{str(thing['kind']).lower()}-{group}.json")
    if schema is None:
        return f"{called(thing)}: Kubernetes {version} has no {thing['kind']} of {thing['apiVersion']}"
    error = best_match(Draft202012Validator(schema, registry=_definitions(version)).iter_errors(thing))
    if error is None:
        return None
    where = ".".join(str(step) for step in error.path)
    return f"{called(thing)} for Kubernetes {version}: {where}: {error.message}"


@cache
def _schema(version: str, name: str) -> Any:
    """None where there is none. The package has a function for all this, which reads 3 MB anew for each object."""
    file = SCHEMAS / f"v{version}.0-local-strict" / name
    return json.loads(file.read_text()) if file.is_file() else None


@cache
def _definitions(version: str) -> Registry[Any]:
    name = "_definitions.json"
    return Registry().with_resource(name, DRAFT202012.create_resource(_schema(version, name))).crawl()


def custom_faults(objects: Iterable[Object]) -> list[str]:
    """The same of the other kinds. Needs `node`, and what `npm ci` puts into tests/node."""
    things = [thing for thing in objects if is_custom(thing)]
    command = [str(shutil.which("node")), "custom-resources.mjs"]
    run = subprocess.run(
        command, cwd=NODE, input=json.dumps(things), capture_output=True, text=True, check=True, timeout=60
    )
    found: Sequence[list[str]] = json.loads(run.stdout)
    return [f"{called(thing)}: {fault}" for thing, own in zip(things, found, strict=True) for fault in own]


def lacks_node() -> str | None:
    """Why custom kinds cannot be checked here."""
    if shutil.which("node") is None:
        return "no `node` on the PATH"
    installed = (NODE / "node_modules" / "@kubernetes-models" / "gateway-api").is_dir()
    return None if installed else "tests/node is not installed (npm ci)"


def called(thing: Object) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


def pick(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The one object of this kind and name. Raises ValueError."""
    (found,) = [thing for thing in objects if (thing["kind"], thing["metadata"]["name"]) == (kind, name)]
    return found


def pod_specs(objects: Iterable[Object]) -> dict[str, Object]:
    """Every pod that the objects lead to, by its Deployment's or StatefulSet's name."""
    return {
        thing["metadata"]["name"]: thing["spec"]["template"]["spec"]
        for thing in objects
        if thing["kind"] in {"Deployment", "StatefulSet"}
    }
