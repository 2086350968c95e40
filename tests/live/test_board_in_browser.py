"""What a person sees and does: the board's script in a real Chromium, with a model that only remembers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import combinations, groupby, pairwise
from typing import TYPE_CHECKING, Any

import pytest

from reference.evidence.history import History, Record
from tests.live.frames import Told
from tests.live.texts import WATCH, Drawn, texts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGE = """<!doctype html><meta charset=utf-8><style>{css}</style>
<body style="margin:0{paper}"><div id=board></div><script type=module>
const state = {state}, heard = {{}};
window.sent = [];
window.whole = (text) => {{ state.whole = text; heard["change:whole"](); }};
window.news = (content, text) => heard["msg:custom"](content, [new DataView(new TextEncoder().encode(text).buffer)]);
window.gone = () => heard["comm_live_update"]();
// Whether it is seen, a board says by itself.
const send = (message) => {{ if (!("watching" in message)) window.sent.push(message); }};
const on = (name, act) => {{ heard[name] = act; }};
const model = {{ get: (name) => state[name], on, off() {{}}, send }};
const module = await import(URL.createObjectURL(new Blob([{script}], {{ type: "text/javascript" }})));
const board = module.default();
board.initialize({{ model }});
board.render({{ model, el: document.getElementById("board") }});
</script>"""
PIXEL = "([what, x, y]) => [...document.querySelector(what).getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"
PICTURES = "[...document.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL())"


@pytest.fixture
def history(make_orders: Callable[..., list[Record]]) -> History:
    return History(make_orders(12))


@pytest.fixture
def board(history: History) -> Told:
    told = Told(history, title="Outbox", faults={"kill relay": lambda: None}).inside()
    told.frame()
    return told


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page(viewport={"width": 960, "height": 600})
    yield page
    page.close()


def looked(records: list[Record], **settings: Any) -> Told:
    """A board that has seen them all."""
    told = Told(History(records), **settings).inside()
    told.frame()
    return told


def put(page: Page, board: Told, *, paper: str = "", canvas: bool = True) -> list[str]:
    """Show the board; returns the list in which errors of the page collect."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    state = {name: getattr(board, name) for name in ("title", "faults", "pressed", "palettes")} | {"whole": board._everything()}
    theme = f";--jp-layout-color0:{paper}" if paper else ""
    page.set_content(PAGE.format(css=board._css, paper=theme, state=json.dumps(state), script=json.dumps(board._esm)))
    page.locator(".eda-board .banner[data-verdict]").wait_for()
    if canvas:
        page.locator(".eda-board canvas[aria-label]:visible").first.wait_for()
    return errors


# What its status says, from now on: a screen reader speaks when that changes.
HEAR = """() => {
  const status = document.querySelector("[role=status]");
  window.heard = [status.textContent];
  const hear = () => window.heard.push(status.textContent);
  new MutationObserver(hear).observe(status, { childList: true, characterData: true, subtree: true });
}"""


def pixel(page: Page, what: str, x: int, y: int) -> list[int]:
    return list(page.evaluate(PIXEL, [what, x, y]))


def test_it_paints_and_says_the_verdict(page: Page, board: Told) -> None:
    """The canvases are painted without an error, and the verdict stands there in words, for those who do not see them, too."""
    errors = put(page, board)
    (story, *_) = json.loads(board._everything())["lanes"]
    banner = page.locator(".banner")
    assert (banner.get_attribute("data-verdict"), errors) == (str(board.snapshot().data.verdict), [])
    assert banner.locator("p").inner_text() == "nothing wrong so far"
    assert [int(v) for v in pixel(page, ".strip", round(story[1]) + 6, round(story[2]) + 6)] == [0, 114, 178]


@pytest.mark.parametrize(("paper", "expected"), [("#ffffff", [255, 255, 255]), ("#111111", [17, 17, 17])])
def test_its_ground_is_jupyterlabs(page: Page, board: Told, paper: str, expected: list[int]) -> None:
    """In JupyterLab the board stands on the theme's own ground, light or dark."""
    put(page, board, paper=paper)
    assert pixel(page, ".charts", 3, 28) == expected


def test_nothing_of_a_theme_stays_behind(page: Page, board: Told) -> None:
    """A board that goes dark has no light edge: the last row of pixels, which a frame covers in part, is dark as well."""
    page.set_viewport_size({"width": 901, "height": 700})
    put(page, board, paper="#ffffff")
    page.evaluate("document.body.style.setProperty('--jp-layout-color0', '#111111'); document.body.className = 'dark'")
    page.wait_for_function("document.querySelector('canvas').getContext('2d').getImageData(3, 28, 1, 1).data[0] === 17")
    last = int(page.evaluate("document.querySelector('canvas').height")) - 1
    assert pixel(page, ".charts", 3, last) == pytest.approx([17, 17, 17], abs=1)  # what covers a pixel in part is rounded


def test_frames_paint_what_the_whole_paints(page: Page, history: History, make_wild: Callable[..., list[Record]]) -> None:
    """A page that was told of every change has the same pictures, to the pixel, as one that is told everything anew."""
    board = Told(history, slots=8, keys=6).inside()
    errors = put(page, board)
    records = make_wild(3, 400)
    for start in range(0, len(records), 40):
        for record in records[start : start + 40]:
            history.add(record)
        page.evaluate("frame => window.news(...frame)", board.frame())
        page.evaluate("new Promise(requestAnimationFrame)")
    changed = page.evaluate(PICTURES)
    page.evaluate("text => window.whole(text)", board._everything())
    page.evaluate("new Promise(requestAnimationFrame)")
    assert (page.evaluate(PICTURES) == changed, errors) == (True, [])


def test_a_missed_frame_is_asked_for(page: Page, board: Told, history: History) -> None:
    """A frame that does not follow the last one is not shown; the kernel is asked for everything."""
    put(page, board)
    before = page.locator(".banner").get_attribute("data-verdict")
    for number in (1, 2):
        history.add(Record(op="commit", event=f"later-{number}", key="k", seq=number))
        frame = board.frame()
    page.evaluate("frame => window.news(...frame)", frame)
    assert page.evaluate("window.sent") == [{"missed": True}]
    assert page.locator(".banner").get_attribute("data-verdict") == before


def test_pointing_at_a_mark_tells_its_story(page: Page, board: Told) -> None:
    """Pointing at a mark opens its event's story; moving away closes it."""
    put(page, board)
    (_, left, top, *_), *_ = json.loads(board._everything())["lanes"]
    canvas = page.locator(".strip")
    corner, wide = canvas.bounding_box() or {"x": 0, "y": 0, "width": 0}, json.loads(board._everything())["strip"]["width"]
    scale = corner["width"] / wide
    page.mouse.move(corner["x"] + (left + 6) * scale, corner["y"] + (top + 6) * scale)
    story = page.locator(".story")
    told = "order-0 #1 · applied 0.000 s committed 0.001 s published 0.002 s delivered to billing 0.003 s applied by billing"
    assert " ".join(story.inner_text().split()) == told
    page.mouse.move(1, 1)
    assert story.is_hidden()


def test_the_keyboard_reaches_marks_and_buttons(page: Page, board: Told) -> None:
    """Arrow keys walk over the marks, and the tab key goes on to the fault buttons."""
    put(page, board)
    for key in ("Tab", "Tab", "ArrowRight", "ArrowRight"):  # over the charts to the strip
        page.keyboard.press(key)
    assert page.locator(".story b").inner_text() == "order-0 #2 · applied"
    page.keyboard.press("ArrowDown")
    assert page.locator(".story b").inner_text() == "order-1 #2 · applied"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("window.sent") == [{"fault": "kill relay"}]


def test_buttons_rest_when_the_block_has_ended(page: Page, board: Told) -> None:
    """The last frame says that nothing is live any more, and the buttons cannot be pressed."""
    put(page, board)
    button = page.get_by_role("button", name="kill relay")
    assert button.is_enabled()
    board._thread = None
    page.evaluate("text => window.whole(text)", board._everything())
    page.wait_for_function("document.querySelector('button').disabled")


def test_a_kernel_that_has_gone_is_told(page: Page, board: Told) -> None:
    """The last frame stays, says why nothing moves, and its buttons rest."""
    put(page, board)
    page.evaluate("window.gone()")
    page.wait_for_function("document.querySelector('.eda-board.gone button').disabled")
    assert page.locator(".banner").is_visible()


def test_it_fits_a_phone(page: Page, board: Told) -> None:
    """In a narrow page the panels stand one below the other, and nothing is wider than the page."""
    put(page, board)
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function("document.querySelector('.strip').getBoundingClientRect().width < 390")
    boxes = [box for canvas in page.locator("canvas").all() if (box := canvas.bounding_box())]
    assert abs(boxes[0]["x"] - boxes[1]["x"]) < 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_numbers_do_not_leave_their_place(page: Page, board: Told, history: History) -> None:
    """Also where there are thousands of events, no count touches the next one's name."""
    for number in range(1_200):
        history.add(Record(op="commit", event=f"more-{number}", key="k", seq=number))
    put(page, board)
    page.evaluate("frame => window.news(...frame)", board.frame())
    page.evaluate("new Promise(requestAnimationFrame)")
    boxes = [box for count in page.locator(".counts > div").all() if (box := count.bounding_box())]
    rows: dict[float, list[tuple[float, float]]] = {}
    for box in boxes:
        rows.setdefault(box["y"], []).append((box["x"], box["x"] + box["width"]))
    assert all(a[1] < b[0] for row in rows.values() for a, b in pairwise(sorted(row)))


BOARDS = {"of a lab": {}, "beside two others": {"width": 300.0, "keys": 8}, "dense": {"keys": 20, "slots": 75}}


@pytest.mark.parametrize("width", [284, 390, 620, 900])
@pytest.mark.parametrize("settings", BOARDS.values(), ids=BOARDS)
def test_every_text_can_be_read_at_any_width(
    settings: dict[str, Any], width: int, page: Page, make_orders: Callable[..., list[Record]]
) -> None:
    """No text is smaller than ten pixels, none covers another, and none begins or ends outside of its canvas."""
    faults = [Record(op="fault", note=note, at=101.0 + i / 3) for i, note in enumerate(("kill kafka", "restart kafka", "reset"))]
    lag = [Record(op="lag", partition=i, value=1_234.0, at=101.0) for i in range(6)]
    records = sorted([*make_orders(1_200, keys=20), *faults, *lag], key=lambda record: record.at)
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate(WATCH)
    errors = put(page, looked(records, **settings))
    drawn = list(dict.fromkeys(texts(page)))
    edges = {name: page.locator(f"canvas.{name}").evaluate("canvas => canvas.clientWidth") for name in ("charts", "strip")}
    assert [text for text in drawn if text.size < 10 - 0.01] == []
    assert [text for text in drawn if text.left < -1 or text.right > edges[text.canvas] + 1] == []
    assert [pair for pair in combinations(drawn, 2) if covers(*pair)] == []
    assert (page.evaluate("document.documentElement.scrollWidth") <= width, errors) == (True, [])


def covers(one: Drawn, other: Drawn) -> bool:
    beside = one.right <= other.left + 1 or other.right <= one.left + 1
    return one.canvas == other.canvas and abs(one.y - other.y) < 8 and not beside


def test_a_strip_that_cannot_get_smaller_is_pushed_sideways(page: Page, make_orders: Callable[..., list[Record]]) -> None:
    """A dense one moves in a box of its own, and the arrow keys bring the mark that they come to into view."""
    page.set_viewport_size({"width": 390, "height": 800})
    put(page, looked(make_orders(2_000, keys=20), keys=20, slots=100))
    box, canvas = page.locator(".strip-panel"), page.locator(".strip")
    assert canvas.evaluate("canvas => canvas.clientWidth") > 700
    canvas.focus()
    for key in ("ArrowRight", "ArrowLeft"):  # from the first mark back to the last of all
        page.keyboard.press(key)
    assert box.evaluate("box => box.scrollLeft") > 100
    story = page.locator(".story").bounding_box() or {"x": 0, "width": 0}
    assert 0 <= story["x"] <= story["x"] + story["width"] <= 390


def test_a_button_whose_fault_holds_looks_pressed(page: Page, history: History) -> None:
    """It is told to whoever hears the page, and stands out for whoever sees it; the others do not."""
    board = Told(history, faults={"pause": lambda: None, "resume": lambda: None}, holding=lambda: {"pause"}).inside()
    board.frame()
    board._tell_pressed()
    put(page, board)
    assert page.locator("[aria-description=holds]").all_inner_texts() == ["pause"]
    page.get_by_role("button", name="pause").hover()  # where the mouse is after the click
    looks = "all => all.map((one) => getComputedStyle(one)).map((style) => [style.color, style.backgroundColor])"
    (ink, ground), (_, others) = page.locator(".faults button").evaluate_all(looks)
    assert ground not in {ink, others}


def test_counts_stay_in_their_box(page: Page, make_orders: Callable[..., list[Record]]) -> None:
    """Also in the narrowest board, and where they are large."""
    ghosts = [Record(op="deliver", event=f"ghost-{number}", key="k", at=200.0) for number in range(1_234)]
    page.set_viewport_size({"width": 270, "height": 800})
    put(page, looked([*make_orders(1_200), *ghosts], panels=["verdict"]), canvas=False)
    box = page.locator(".banner").bounding_box() or {"x": 0, "width": 0}
    counts = [count for one in page.locator(".counts span, .counts b").all() if (count := one.bounding_box())]
    assert max(count["x"] + count["width"] for count in counts) <= box["x"] + box["width"]


def test_a_board_without_events_is_a_line(page: Page, make_orders: Callable[..., list[Record]]) -> None:
    """No empty axes and no empty room: they come with the first event."""
    history = History()
    board = Told(history).inside()
    page.evaluate(WATCH)
    put(page, board)
    assert page.locator("canvas:visible").evaluate_all("all => all.map((one) => one.className)") == ["strip"]
    assert [text.words for text in dict.fromkeys(texts(page))] == ["Events by key, in commit order", "nothing yet"]
    assert page.locator(".eda-board").evaluate("board => board.offsetHeight") < 150
    for record in make_orders(1):
        history.add(record)
    page.evaluate("frame => window.news(...frame)", board.frame())
    page.locator(".charts").wait_for()


def test_a_screen_reader_is_told_what_changed_and_not_each_number(page: Page, make_orders: Callable[..., list[Record]]) -> None:
    """It hears once that nothing is wrong so far, whatever is still on its way; that something went wrong; and the end."""
    history = History()
    board = Told(history).inside()
    put(page, board)
    page.evaluate(HEAR)

    def tell(records: list[Record]) -> None:
        for record in records:
            history.add(record)
            page.evaluate("frame => window.news(...frame)", board.frame())
            page.evaluate("new Promise(requestAnimationFrame)")

    def hears(words: str) -> None:
        page.wait_for_function("words => window.heard.at(-1) === words", arg=words)

    hears("nothing committed yet")
    tell(make_orders(30))
    hears("nothing wrong so far")
    tell([Record(op="apply", event=f"e{again}", key=f"order-{again}", group="billing", at=300.0) for again in range(3)])
    hears("3 applied twice")
    tell(make_orders(20, start=400.0))  # as many are repeated, one after the other
    board._thread = None
    page.evaluate("text => window.whole(text)", board._everything())
    hears("20 applied twice")
    said = ["", "nothing committed yet", "nothing wrong so far", "3 applied twice", "20 applied twice"]
    assert [words for words, _ in groupby(page.evaluate("window.heard"))] == said


def test_a_screen_reader_reads_what_the_arrow_keys_come_to(page: Page, board: Told) -> None:
    """A canvas says what it shows and that arrow keys walk over it, and each story is spoken; without anything to walk to it is
    a picture.
    """
    put(page, board)
    charts, strip = page.locator(".charts"), page.locator(".strip")
    assert (charts.get_attribute("role"), strip.get_attribute("role")) == ("img", "application")
    assert strip.get_attribute("aria-label") == "events by key, in commit order: 3 keys"
    assert strip.get_attribute("aria-description") == "the arrow keys walk over its events"
    strip.focus()
    page.keyboard.press("ArrowRight")
    told = "order-0 #1 · applied; 0.000 s committed; 0.001 s published; 0.002 s delivered to billing; 0.003 s applied by billing"
    assert page.locator("[role=status]").inner_text() == told


def test_the_buttons_stay_in_reach(page: Page, board: Told) -> None:
    """While they do something they are in view, also where the board is taller than the page; afterwards they are at its end."""
    page.set_viewport_size({"width": 390, "height": 500})
    put(page, board)
    where = "button => [button.getBoundingClientRect().bottom, innerHeight]"
    bottom, edge = page.get_by_role("button", name="kill relay").evaluate(where)
    assert bottom <= edge < page.locator(".eda-board").evaluate("board => board.offsetHeight")
    board._thread = None
    page.evaluate("text => window.whole(text)", board._everything())
    page.wait_for_function("document.querySelector('button').disabled")
    bottom, edge = page.get_by_role("button", name="kill relay").evaluate(where)
    assert bottom > edge
