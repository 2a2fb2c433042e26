"""Traffic, faults, history and a checker, as four parts: what was seen under faults is judged when all is over."""
