"""A policy engine for shared GPU servers that run Docker."""

__version__ = "0.1.0"
