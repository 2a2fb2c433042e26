"""Every test; `support` holds the servers and clients they share."""
