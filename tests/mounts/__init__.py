"""Inside other people's applications, each served as its users serve it: what works there, and how it ends."""
