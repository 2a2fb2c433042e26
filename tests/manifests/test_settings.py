"""Every setting has its place in the manifests, and nothing there is a setting that does not exist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from progress_stream.settings import PREFIX, Settings, load

from .building import MANIFESTS, OVERLAYS, ROOT, pick, pod_specs
from .conftest import overlay

#: Where a pod needs another value than the default.
OTHERWISE: Final = {"DATA": "/data", "ADMIN_PORT": "9090"}
NAMES: Final = {name.upper() for name in Settings.model_fields}
SECRETS: Final = {
    "progress-stream-redis": {"REDIS_URL", "BROKER_URL"},
    "progress-stream-sign-in": {"JWT_SECRET", "OIDC_CLIENT_SECRET"},
}
BASE: Final = MANIFESTS / "base"


def lines(file: Path, pattern: str) -> dict[str, str]:
    found = re.findall(rf"^{pattern}{PREFIX}(\w+)=(.*)$", file.read_text(), re.MULTILINE)
    assert len(found) == len(dict(found)), f"a name stands twice in {file.name}"
    return dict(found)


SET: Final = lines(BASE / "settings.env", "")
UNSET: Final = lines(BASE / "settings.env", "#")


def test_every_setting_has_its_place_and_only_one() -> None:
    """Set, named as having no default, or part of a Secret. A new setting takes its place here."""
    secret = {name for names in SECRETS.values() for name in names}

    assert sorted([*SET, *UNSET, *secret]) == sorted(NAMES)


def test_what_is_set_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list shows the defaults and does not change them, but where a pod needs it."""
    for name in NAMES:
        monkeypatch.delenv(PREFIX + name, raising=False)
    defaults = load()
    assert OTHERWISE == {name: SET[name] for name in OTHERWISE}
    for name, value in SET.items():
        monkeypatch.setenv(PREFIX + name, value)
    told = load()

    assert {name.lower() for name in OTHERWISE} == {
        field for field in Settings.model_fields if getattr(told, field) != getattr(defaults, field)
    }


def test_what_is_not_set_has_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its example is one that would be taken."""
    for name in UNSET:
        assert not Settings.model_fields[name.lower()].default
        monkeypatch.setenv(PREFIX + name, UNSET[name])
    load()


@pytest.mark.parametrize("secret", SECRETS)
def test_an_example_of_a_secret_names_its_settings(secret: str) -> None:
    """All that are secret (what is typed so, and URLs with passwords), and holds none."""
    file = BASE / f"{secret.removeprefix('progress-stream-')}.secret.example.env"
    found = lines(file, "")

    assert SECRETS[secret] == found.keys()
    assert f"kubectl -n progress-stream create secret generic {secret} --from-env-file=" in file.read_text()
    for name, value in found.items():
        typed_secret = SecretStr in getattr(Settings.model_fields[name.lower()].annotation, "__args__", ())
        assert not (typed_secret and value)
    assert "/manifests/base/*.secret.env\n" in (ROOT / ".gitignore").read_text()


def test_every_url_of_the_example_is_one_that_is_taken() -> None:
    """Those in comments too, which are of a group, or of the accounts whose rights the docs name."""
    text = (BASE / "redis.secret.example.env").read_text()
    found = re.findall(rf"^(?:#   )?{PREFIX}(\w+)=(\S+)$", text, re.MULTILINE)
    accounts = re.findall(r"^user (\w+) on", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    for name, url in found:
        load(**{"redis_url": "redis://a:6379/0", "broker_url": "redis://b:6379/1", name.lower(): url})

    assert {"", *accounts} == {url.partition("://")[2].partition(":")[0] for _, url in found}


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_get_all_settings_and_only_their_own_secrets(name: str) -> None:
    """A worker, which runs strangers' input, can sign no token."""
    settings = wired(name)

    assert settings["progress-stream-web"].keys() - NAMES == set()
    assert NAMES - settings["progress-stream-web"].keys() <= set(UNSET) | {"BROKER_URL"}
    assert not SECRETS["progress-stream-sign-in"] & settings["progress-stream-worker"].keys()
    assert "REDIS_URL" in settings["progress-stream-worker"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_process_would_start_with_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are in the overlay, with examples in the place of secrets."""
    for setting in NAMES:
        monkeypatch.delenv(PREFIX + setting, raising=False)
    examples = {
        "REDIS_URL": "rediss://redis:6379/0",
        "BROKER_URL": "rediss://redis:6379/1",
        "JWT_SECRET": "s" * 32,
    }
    for setting, value in wired(name)["progress-stream-web"].items():
        value = value if value is not None else examples.get(setting)
        if value is not None:
            monkeypatch.setenv(PREFIX + setting, value)
    settings = load()

    assert settings.redis_url and settings.effective_broker_url and settings.jwt_secret
    assert "/data/files" in settings.effective_files_url or settings.files_url


def test_a_changed_setting_rolls_the_pods() -> None:
    """A ConfigMap's name ends in a hash of its content; under one and the same name pods would keep what they started with."""
    for name in OVERLAYS:
        for deployment in ("progress-stream-web", "progress-stream-worker"):
            config = pod_specs(overlay(name))[deployment]["containers"][0]["envFrom"][0]["configMapRef"][
                "name"
            ]
            assert re.fullmatch(r"progress-stream-settings-[a-z0-9]{10}", config)


def wired(name: str) -> dict[str, Mapping[str, str | None]]:
    """By Deployment: setting → value; None for what a Secret has."""
    objects = overlay(name)
    found: dict[str, Mapping[str, str | None]] = {}
    for deployment in ("progress-stream-web", "progress-stream-worker"):
        settings: dict[str, str | None] = {}
        (container,) = pod_specs(objects)[deployment]["containers"]
        for source in container["envFrom"]:
            if "configMapRef" in source:
                settings |= pick(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
            else:
                settings |= dict.fromkeys(PREFIX + secret for secret in SECRETS[source["secretRef"]["name"]])
        assert all(key.startswith(PREFIX) for key in settings)
        found[deployment] = {key.removeprefix(PREFIX): value for key, value in settings.items()}
    return found
