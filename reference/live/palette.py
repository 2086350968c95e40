"""Colours by the part they play: Okabe and Ito's palette, which colour-blind people can tell apart, for light and dark.

Vermillion always means a broken promise, amber something repeated but harmless.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DARK", "LIGHT", "PARTITIONS"]

LIGHT: Final[dict[str, str]] = {
    "paper": "#ffffff", "ink": "#1f2328", "soft": "#57606a", "rule": "#dfe3e8", "fault": "#8a4b00",
    "onmark": "#ffffff", "on-applied": "#ffffff", "on-delivered": "#0b2a3d",
    "good": "#009E73", "good-ink": "#00664b", "good-wash": "#e9f6f1",
    "bad": "#D55E00", "bad-ink": "#a84300", "bad-wash": "#fdf0e7",
    "warn": "#E69F00", "warn-ink": "#855c00", "warn-wash": "#fdf6e3",
    "moving": "#56B4E9", "moving-ink": "#005a8c", "moving-wash": "#eef6fc",
    "committed": "#8a919b", "delivered": "#56B4E9", "applied": "#0072B2", "parked": "#b3578c", "dead": "#24292f",
    "line0": "#b3578c", "line1": "#009E73", "line2": "#E69F00", "line3": "#0072B2", "line4": "#56B4E9", "line5": "#57606a",
}  # fmt: skip

DARK: Final[dict[str, str]] = LIGHT | {
    "paper": "#111418", "ink": "#e6eaef", "soft": "#9aa4af", "rule": "#333a42", "fault": "#e9b264",
    "good": "#12b389", "good-ink": "#4fd6b0", "good-wash": "#0e2a23",
    "bad": "#f07a1f", "bad-ink": "#ff9d57", "bad-wash": "#351c0b",
    "warn-ink": "#f2bd4b", "warn-wash": "#302507",
    "moving-ink": "#8fd0f5", "moving-wash": "#0d2432",
    "delivered": "#8ccdf3", "applied": "#2180c4", "parked": "#d98dba", "dead": "#c9d1d9", "onmark": "#0b0e11",
    "line0": "#d98dba", "line1": "#12b389", "line3": "#4aa3df", "line4": "#8ccdf3", "line5": "#9aa4af",
}  # fmt: skip

PARTITIONS: Final = ("line0", "line1", "line2", "line3", "line4", "line5")
