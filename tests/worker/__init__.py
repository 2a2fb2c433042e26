"""Real Dramatiq workers on a real Redis: what becomes of a message becomes of its job."""
