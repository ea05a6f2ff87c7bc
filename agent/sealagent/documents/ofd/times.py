"""Times as OFD writers spell them. They have no schema in practice; local time is the rule."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

__all__ = ["read_time"]

_CHINA = timezone(timedelta(hours=8))
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.\d+)?(Z?)")


def read_time(text: str) -> tuple[datetime | None, bool]:
    """Return the time in UTC, and whether the text names it exactly (with a zone).

    Without a zone it is taken as China Standard Time: so it is in every file met (standards §8.2.7).
    """
    compact = _COMPACT.fullmatch(text.strip())
    if compact:
        *parts, zone = compact.groups()
        text = "{}-{}-{}T{}:{}:{}".format(*parts) + zone
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            return moment.astimezone(UTC), True
        return moment.replace(tzinfo=_CHINA).astimezone(UTC), False
    except (ValueError, OverflowError):
        return None, False
