"""Sources: what is asked of Docker, Prometheus, the driver and the host, and how a Snapshot is made of it."""
