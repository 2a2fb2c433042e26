"""The parts of reporting that decide: buffer, meter, outcome, descriptions."""
