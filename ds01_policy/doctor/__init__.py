"""Is this host set up right: `ds01-policy doctor`. asking/ gets the facts, judging/ finds what is wanting."""
