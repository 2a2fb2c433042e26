"""A private S3 server for tests, on loopback: moto's, which keeps what it is given in memory and checks who asks when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self
from urllib.request import Request, urlopen

from botocore.session import get_session

from tests.support.loopback import free_port
from tests.support.waiting import until

#: moto takes any pair until it is told to look.
KEY: Final = "AKIDOFNOBODYINTESTS0"
SECRET: Final = "a-secret-that-no-log-may-hold"
START_SECONDS: Final = 60


class S3Server:
    """A context manager: at its end nothing of it runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
        """What a process of the product is given to reach it."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip

    def client(self, service: str = "s3", key: str = KEY, secret: str = SECRET) -> Any:
        """A client that is not ours, to look at what lies there."""
        return get_session().create_client(
            service, endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=key,
            aws_secret_access_key=secret,
        )  # fmt: skip

    def admit_only(self, user: str) -> tuple[str, str]:
        """A key and its secret; from now on a request that is not signed with them is refused, as S3 does."""
        iam = self.client("iam")
        iam.create_user(UserName=user)
        policy = (
            '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        )
        iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=policy)
        made = iam.create_access_key(UserName=user)["AccessKey"]
        self._authenticate_from("0")
        return made["AccessKeyId"], made["SecretAccessKey"]

    def admit_all(self) -> None:
        self._authenticate_from("inf")

    def _authenticate_from(self, requests: str) -> None:
        plain = {"Content-Type": "text/plain"}
        with urlopen(Request(f"{self.url}/moto-api/reset-auth", requests.encode(), plain, method="POST")):
            pass

    def signal(self, what: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, what)

    def __enter__(self) -> Self:
        with (self._folder / "s3.log").open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=self._folder, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        try:
            until(self._answers, START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/moto-api/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
