"""`progress-stream token`: a token signed with the configured secret, for tests, scripts and first steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Data
from .terminal import USAGE, fail


def token(
    sub: Annotated[str, typer.Option(help="Whom the token is for: the owner of the jobs it starts.")],
    scope: Annotated[
        str, typer.Option(help="What it allows: jobs:read, jobs:write, jobs:admin.")
    ] = "jobs:read jobs:write",
    seconds: Annotated[int, typer.Option(min=1, help="How long it is valid.")] = 3_600,
    data: Data = Path("data"),
) -> None:
    """Print a token.

    Signed with PROGRESS_STREAM_JWT_SECRET; where that is not set, with the secret that `dev` keeps in its data folder.
    """
    from ..auth.verify import sign
    from ..settings import load
    from .secret import kept_secret

    settings = load(data=data)
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else kept_secret(data)
    if secret is None:
        fail(
            f"PROGRESS_STREAM_JWT_SECRET is not set, and no `dev` has run in the data folder {data}"
            " (allowed: a secret of 32 bytes or more)",
            USAGE,
        )
    print(
        sign(
            secret,
            sub,
            scope,
            seconds,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
            owner_claim=settings.owner_claim,
        )
    )
