"""Who asks, and what they may: tokens, the keys that prove them, tickets for URLs. Answers no request by itself."""
