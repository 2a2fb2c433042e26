"""What importing the package loads, and what it does not."""

import subprocess
import sys

import pytest

import progress_stream


def in_a_fresh_interpreter(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.strip()


def test_importing_the_package_loads_no_library() -> None:
    """A worker does not pay for the web stack, nor a web process for Dramatiq."""
    heavy = "{'starlette', 'sse_starlette', 'uvicorn', 'dramatiq', 'redis', 'pydantic', 'authlib', 'fsspec'}"

    loaded = in_a_fresh_interpreter(f"import sys, progress_stream; print(sorted({heavy} & set(sys.modules)))")

    assert "[]" == loaded


@pytest.mark.parametrize("name", ["ProgressMiddleware", "current_job", "track", "report"])
def test_what_a_worker_uses_loads_no_web_stack(name: str) -> None:
    """Starlette and uvicorn stay out of a process that only reports (sse-starlette patches uvicorn when imported)."""
    heavy = "{'starlette', 'sse_starlette', 'uvicorn'}"

    loaded = in_a_fresh_interpreter(
        f"import sys, progress_stream; progress_stream.{name}; print(sorted({heavy} & set(sys.modules)))"
    )

    assert "[]" == loaded


@pytest.mark.parametrize("name", progress_stream.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each name in `__all__` loads, and is listed by `dir`."""
    assert getattr(progress_stream, name) is not None
    assert name in dir(progress_stream)


def test_the_public_names_are_these() -> None:
    """A change of the public surface is seen here first."""
    expected = [
        "Cancelled",
        "ProgressMiddleware",
        "Settings",
        "Superseded",
        "Upload",
        "WatchEvent",
        "__version__",
        "broker_client",
        "create_app",
        "current_job",
        "load",
        "report",
        "track",
        "watch",
        "watch_sync",
    ]

    assert expected == progress_stream.__all__


def test_a_name_that_is_none_of_ours_is_refused() -> None:
    """As a module without lazy names would."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = progress_stream.nothing
