"""The served application, as an attacker meets it, and a hand in its Redis, for one who got that far."""

from tests.contract.conftest import settings, site

__all__ = ["settings", "site"]
