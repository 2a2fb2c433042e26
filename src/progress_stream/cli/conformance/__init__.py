"""`progress-stream conformance`: the rules of the stream, tried against any running server. Knows the contract, not the code."""
