"""The worker side: from an actor's call to an append in Redis. Knows no HTTP."""
