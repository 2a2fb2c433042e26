"""Following a job from outside, over HTTP alone. Knows neither Redis nor Dramatiq."""
