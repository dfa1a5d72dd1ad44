"""PURE: facts about this host → findings. Asks nobody, reads no clock."""
