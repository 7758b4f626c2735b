"""How numbers, times and passages are written on a page. Knows nothing of records."""

from __future__ import annotations

import math
import re
from datetime import datetime
from zoneinfo import ZoneInfo

_HANGUL = re.compile(r"[\uac00-\ud7a3]")
_LATIN = re.compile(r"[A-Za-z]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def number(value: float, decimals: int | None = None, *, signed: bool = False) -> str:
    """A number with a true minus sign: fixed decimals, or four significant digits.

    >>> number(-0.01234, 3), number(0.5, 2, signed=True), number(1234567)
    ('−0.012', '+0.50', '1,235,000')
    """
    if decimals is None:
        rounded = float(f"{value:.4g}")
        text = f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.4g}"
        text = f"+{text}" if signed and value > 0 else text
    else:
        text = f"{value:{'+' if signed else ''},.{decimals}f}"
    return text.replace("-", "−")


def decimals_for(margin: float) -> int:
    """Decimals in which a margin and its neighbours can be told apart: two more than it needs itself.

    >>> decimals_for(0.01), decimals_for(1.0), decimals_for(25)
    (4, 2, 2)
    """
    return max(2, 2 - math.floor(math.log10(margin)))


def p_value(value: float) -> str:
    """
    >>> p_value(0.03125), p_value(0.00002)
    ('0.0312', '< 0.0001')
    """
    return "< 0.0001" if value < 0.0001 else f"{value:.3g}"


def large(value: float) -> str:
    """A count as engineers say it, the same in both languages.

    >>> large(86_200_000), large(9e9), large(45_000), large(1024)
    ('86.2M', '9B', '45K', '1024')
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= max(size, 10_000):
            return f"{float(f'{value / size:.3g}'):g}{letter}"
    return f"{value:g}"


def duration(seconds: float) -> str:
    """
    >>> duration(7.26), duration(133), duration(7261)
    ('7.3 s', '2 min 13 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def moment(iso: str, timezone: str) -> str:
    """A time of the records, which is in UTC, as the clock of the study group shows it.

    >>> moment("2026-03-01T05:00:00Z", "Asia/Seoul")
    '2026-03-01 14:00 KST'
    """
    try:
        when = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    if when.tzinfo is None:
        when = when.replace(tzinfo=ZoneInfo("UTC"))
    return when.astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%d %H:%M %Z")


def language_of(text: str) -> str | None:
    """The language of a passage, "ko" or "en", for the `lang` attribute; None when it has no letters.

    A Korean engineer's sentence is full of English words, so a fifth of Hangul makes it Korean.
    """
    hangul, latin = len(_HANGUL.findall(text)), len(_LATIN.findall(text))
    if hangul + latin == 0:
        return None
    return "ko" if hangul >= 0.2 * (hangul + latin) else "en"


def plain(text: str) -> str:
    """A text for the window's title, where no element can isolate what turns the writing direction."""
    return _CONTROLS.sub("", text)
