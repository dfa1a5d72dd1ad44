"""`ds01-policy selftest`: one throwaway container goes through warn, stop, remove and epilog on this very host."""
