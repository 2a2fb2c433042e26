"""The commands as processes: what they print, how they end, what they leave behind."""
