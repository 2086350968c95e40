"""The words on a page's canvases, and how large they are for whoever reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["WATCH", "Drawn", "texts"]

# From the page's beginning on, each text that is drawn on a canvas that stands in it.
WATCH = r"""(() => {
  const { fillText } = CanvasRenderingContext2D.prototype;
  window.drawn = [];
  CanvasRenderingContext2D.prototype.fillText = function (words, x, y) {
    const { a } = this.getTransform();
    const scale = (a * this.canvas.clientWidth) / this.canvas.width;
    const size = parseFloat(/([\d.]+)px/.exec(this.font)[1]) * scale;
    const left = x * scale;
    if (this.canvas.isConnected)
      window.drawn.push([this.canvas.className, words, size, left, left + this.measureText(words).width * scale, y * scale]);
    return fillText.call(this, words, x, y);
  };
})()"""
SIGN = re.compile(r"\d×?|\?|P")  # a mark's own, which is told by its shape and its story as well


@dataclass(frozen=True, slots=True)
class Drawn:
    """On which canvas; ``size``, ``left``, ``right`` and the base line ``y`` in CSS pixels."""

    canvas: str
    words: str
    size: float
    left: float
    right: float
    y: float


def texts(page: Page) -> list[Drawn]:
    """All that have been drawn so far, but for the signs in marks."""
    drawn = [Drawn(*told) for told in page.evaluate("window.drawn")]
    return [text for text in drawn if text.canvas != "strip" or not SIGN.fullmatch(text.words)]
