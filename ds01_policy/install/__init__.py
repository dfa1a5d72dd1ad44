"""Makes a host agree with what this version installs: units, link, policy files, state."""
