"""`init --from-limits`: the limits file that a site has today, read once and turned into policy files."""
