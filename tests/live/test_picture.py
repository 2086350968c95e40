"""The picture says what the snapshot says, in an SVG that is the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from reference.evidence.history import Record
from reference.live.banner import sentence
from reference.live.glyph import SIZE, glyph, look
from reference.live.mark import Mark, State
from reference.live.palette import DARK, LIGHT
from reference.live.picture import Picture, SideBySide, svg
from reference.live.scene import PANELS, WIDTH, Panel, compose
from reference.live.shapes import Rect, Text, text_width
from reference.live.snapshot import Sampler, snapshot

Make = Callable[..., list[Record]]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("seed", range(10))
def test_equal_snapshots_give_equal_pictures(seed: int, make_wild: Make) -> None:
    """The same history drawn twice gives the same letters."""
    assert svg(snapshot(make_wild(seed))) == svg(snapshot(make_wild(seed)))


def test_verdict_and_strip_know_no_times(make_orders: Make) -> None:
    """The same events at other times and with other ids give the same picture of verdict and strip, letter by letter."""
    slow = [replace(r, at=3 * r.at, event=f"x{r.event}", value=r.value and r.value * 2) for r in make_orders(60)]
    panels: tuple[Panel, ...] = ("verdict", "strip")
    assert svg(snapshot(make_orders(60)), panels) == svg(snapshot(slow), panels)


@pytest.mark.parametrize("panels", [PANELS, *((panel,) for panel in PANELS), ("verdict", "lag", "rates"), ()])
def test_every_choice_of_panels_is_xml(panels: tuple[Panel, ...], make_wild: Make) -> None:
    """Any panels, in any company, give well-formed SVG with a title, a description and a ground."""
    hostile = [replace(r, key=f"<{r.key}&", note=f"{r.note}<&>\"'") for r in make_wild(3)]
    root = ET.fromstring(svg(snapshot(hostile), panels))  # noqa: S314  our own
    assert [child.tag for child in root][:3] == [f"{SVG}title", f"{SVG}desc", f"{SVG}rect"]


def test_it_needs_nothing_from_outside(make_wild: Make) -> None:
    """No script, style sheet, identifier, link or font file: it looks the same wherever it is shown."""
    assert not re.search(r"<script|<style|<image|<use|\bid=|href|url\(|@font|\bon\w+=", svg(snapshot(make_wild(1))))


def test_a_usual_lab_is_small(make_orders: Make) -> None:
    """Twelve full lanes, lag of two partitions and the rates stay below sixty kilobytes."""
    assert len(svg(snapshot(make_orders(2_000, keys=40))).encode()) < 60_000


@pytest.mark.parametrize("width", [WIDTH, 320.0])
@pytest.mark.parametrize("seed", range(30))
def test_nothing_leaves_the_picture(seed: int, width: float, make_wild: Make) -> None:
    """Every text begins and ends inside, in the widest usual font, also of one that stands beside two others."""
    scene = compose(snapshot(make_wild(seed)), width=width)
    for text in (shape for shape in scene.shapes if isinstance(shape, Text)):
        width = sum(text_width(run.words, text.size) for run in text.runs)
        left = text.x - {"start": 0, "middle": width / 2, "end": width}[text.anchor]
        assert left >= -1
        assert left + width <= scene.width + 1
        assert 0 < text.y < scene.height


def test_every_state_looks_different() -> None:
    """No two states share shape, letter and colour, and a redelivered event differs from one delivered once."""
    looks = {glyph(look(Mark(event="e", seq=1, state=state, deliveries=n))) for state in State for n in (1, 2)}
    same_twice = (State.COMMITTED, State.LOST, State.UNEXPECTED, State.APPLIED_TWICE, State.PARKED, State.DEAD)
    assert len(looks) == 2 * len(State) - len(same_twice)


def test_every_state_appears_in_the_picture() -> None:
    """The legend names every state that a mark has."""
    aside = [Record(op="apply", phase="fail", event=n, key=n, note=n, at=1.0) for n in ("parked", "dead letter")]
    commits = [Record(op="commit", event=n, key=n, seq=1, at=1.0) for n in ("parked", "dead letter")]
    deliveries = [Record(op="deliver", event=n, key=n, seq=1, at=1.0) for n in ("parked", "dead letter")]
    drawn = svg(snapshot([*commits, *deliveries, *aside]), ("strip",))
    assert [state for state in State if f">{state.value}</text>" not in drawn] == []


def test_names_of_faults_do_not_cover_each_other(make_orders: Make) -> None:
    """However close together the faults are, no two of their names overlap in a row."""
    faults = [Record(op="fault", note=f"fault number {i}", at=100.0 + i * 0.03) for i in range(12)]
    records = sorted([*make_orders(60), *faults], key=lambda r: r.at)
    rows: dict[float, list[tuple[float, float]]] = {}
    for text in (s for s in compose(snapshot(records)).shapes if isinstance(s, Text) and s.runs[0].fill == "fault"):
        width = text_width(text.runs[0].words, text.size)
        left = text.x - (width if text.anchor == "end" else 0)
        rows.setdefault(text.y, []).append((left, left + width))
    spans = [sorted(row) for row in rows.values()]
    assert spans
    assert all(a[1] < b[0] for row in spans for a, b in pairwise(row))


def test_no_lag_panel_without_samples(make_orders: Make) -> None:
    """Where nobody samples lag, its panel is left out rather than drawn empty."""
    unsampled = [r for r in make_orders(20) if r.op != "lag"]
    assert ("events waiting" in svg(snapshot(make_orders(20))), "events waiting" in svg(snapshot(unsampled))) == (True, False)


def test_an_unknown_panel_is_named() -> None:
    """A misspelt panel is an error that names it and those there are."""
    with pytest.raises(ValueError, match="no panel stripe; there are verdict, lag, rates, repeats, strip"):
        svg(snapshot([]), ("stripe",))  # type: ignore[arg-type]


def test_its_plain_text_is_the_verdict(make_orders: Make) -> None:
    """A notebook gets the picture as SVG and, as text, the line that the verdict prints."""
    shown = snapshot(make_orders(5))
    assert Picture(shown)._repr_mimebundle_() == {"image/svg+xml": svg(shown), "text/plain": str(shown.verdict)}


LOST = Record(op="commit", event="lost", key="k", seq=1, at=200.0)
FOUND = Record(op="deliver", event="lost", key="k", group="billing", at=201.0)
ROLLED_BACK = Record(op="commit", phase="fail", event="ghost", key="k", at=200.5)
GHOST = Record(op="deliver", event="ghost", key="k", group="billing", at=201.0)


@pytest.mark.parametrize(
    ("extra", "settled", "expected"),
    [
        ([], True, ("good", "nothing lost, each applied once, order kept")),
        ([], False, ("moving", "nothing wrong so far")),
        ([LOST], True, ("bad", "1 event lost")),
        ([LOST], False, ("moving", "nothing wrong so far, 1 not delivered yet")),
        (
            [LOST, FOUND],
            True,
            ("warn", "nothing lost, order kept, 1 not applied yet"),
        ),
        ([GHOST], True, ("bad", "1 unexpected (never committed)")),
        ([GHOST], False, ("moving", "nothing wrong so far, 1 not applied yet")),  # the record of its commit may be on its way
        ([ROLLED_BACK, GHOST], False, ("bad", "1 unexpected (never committed)")),
    ],
)
def test_the_sentence_is_true(extra: list[Record], settled: bool, expected: tuple[str, str], make_orders: Make) -> None:
    """The banner claims no more than the verdict bears out."""
    assert sentence(snapshot([*make_orders(6), *extra], settled=settled)) == expected


def test_both_themes_paint_every_part() -> None:
    """Light and dark know the same parts."""
    assert LIGHT.keys() == DARK.keys()


def test_several_stand_side_by_side(make_orders: Make) -> None:
    """Each under its name, in one picture that is the same for the same snapshots, and whose text has a line for each."""
    shots = {"kafka": snapshot(make_orders(9)), "rabbitmq": snapshot(make_orders(5))}
    beside = SideBySide(shots, ("verdict", "lag"))
    root = ET.fromstring(beside.svg)  # noqa: S314  our own
    assert [text.text for text in root.iter(f"{SVG}text") if text.text in shots] == list(shots)
    assert (beside.svg, repr(beside).splitlines()[1]) == (
        SideBySide(shots, ("verdict", "lag")).svg, f"rabbitmq: {shots['rabbitmq'].verdict}",
    )  # fmt: skip


def test_many_marks_get_smaller(make_orders: Make) -> None:
    """Five thousand of fifty keys are in the picture, one beside the other, and none over the edge."""
    sampler = Sampler(keys=50, slots=100)
    sampler.fold(make_orders(5_000, keys=50))
    scene = compose(sampler.snapshot(), ["strip"])
    marks = [shape for shape in scene.shapes if isinstance(shape, Rect) and shape.fill == "applied" and shape.w < 0.9 * SIZE]
    assert (len(marks), max(mark.x + mark.w for mark in marks) < scene.width) == (5_000, True)
