"""Everything that talks to Redis or keeps files: commands as values, and the connections that send them."""
