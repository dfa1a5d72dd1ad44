"""A process of its own around apprise: one message in by stdin as JSON, the answer out as an exit status.

0: accepted · 1: not accepted, or apprise failed · 2: the URL is not understood. Imports nothing of this package; what
apprise prints goes nowhere, as it may hold the URL and its secrets.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Send `{"url", "title", "body"}` from stdin."""
    import apprise

    job = json.load(sys.stdin)
    service = apprise.Apprise()
    if not service.add(job["url"]):
        return 2
    return 0 if service.notify(title=job["title"], body=job["body"], body_format="text") else 1


if __name__ == "__main__":
    sys.exit(main())
