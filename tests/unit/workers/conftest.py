"""Importing `workers` makes its broker, which needs an address; nothing connects to it here."""

import os

os.environ.setdefault("PROGRESS_STREAM_REDIS_URL", "redis://127.0.0.1:1/0")
