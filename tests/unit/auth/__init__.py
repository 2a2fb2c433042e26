"""Who asks: tokens proved, forged, rotated; tickets; where a token stands in a request."""
