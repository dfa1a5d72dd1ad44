"""What `check` says about how long a rule over signals asks: too short for what is measured, longer than it is kept.

Owns these warnings. How long a real Prometheus keeps samples only `check --live` can ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.config.loaded import warning
from ds01_policy.config.possible import limits_of
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from ds01_policy.config.loaded import Loaded
    from ds01_policy.config.problems import Finding
    from ds01_policy.config.yaml_strict import Document, Path

FEWEST_SAMPLES = 4


def windows(loaded: Loaded) -> Iterator[Finding]:
    """Yield windows that cannot be answered well, each where its length is written."""
    settings = loaded.policy.settings
    source = settings.prometheus
    every = settings.local_samples.interval if source is None else source.scrape_interval
    shortest = FEWEST_SAMPLES * every
    for rule, window, document, path in asked(loaded):
        said = f"rule {rule!r} asks over {format_duration(window)}"
        if window < shortest:
            samples = f"{FEWEST_SAMPLES} samples are {format_duration(shortest)} (one every {format_duration(every)})"
            yield warning("window_too_short", document, path, f"{said}: {samples}")
        if source is None and window > settings.local_samples.retain:
            kept = f"without Prometheus samples are kept for {format_duration(settings.local_samples.retain)}"
            message = f"{said}, and {kept} (local_samples.retain)"
            yield warning("window_beyond_retention", document, path, message)
    if source is not None and settings.awake < shortest:
        message = (
            f"{format_duration(settings.awake)} is less than {FEWEST_SAMPLES} samples ({format_duration(shortest)})"
        )
        yield warning("window_too_short", loaded.documents["settings"], ("awake",), message)


def asked(loaded: Loaded) -> Iterator[tuple[str, timedelta, Document, Path]]:
    """Yield how long each rule over signals may ask, and where that is said."""
    for rule, document, place in loaded.placed():
        if rule.when is None:
            continue
        if rule.for_.duration is not None:
            yield rule.id, rule.for_.duration, document, (*place, "for")
        for path, value in limits_of(loaded.policy, rule).items():
            if value is not None:
                yield rule.id, value, loaded.documents["limits"], path
