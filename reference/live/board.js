// Shows what reference/live/feed.py tells. The layout is Python's, colours follow the theme; a view that is narrower than that
// layout draws its lines shorter and its marks smaller, and no text. One store a model, any number of views: frames are put
// together in the store, and each view paints what has changed since it painted last.

export default () => {
  const store = { frame: 0, live: false, looks: {}, lanes: [], stories: new Map(), views: new Set(), docked: new Set() };
  return {
    initialize({ model }) {
      const whole = () => take(store, JSON.parse(model.get("whole") || "{}"), true);
      const news = (content, buffers) => {
        if (!content.frame) return;
        if (content.frame !== store.frame + 1) { model.send({ missed: true }); return; } // told anew, as a whole
        store.frame = content.frame;
        take(store, JSON.parse(new TextDecoder().decode(buffers[0])), false);
        store.at = content.at;
      };
      // The kernel was restarted or has died. The next one makes a place of its own beside the notebook.
      const gone = async () => {
        Object.assign(store, { live: false, gone: true });
        told(store, {});
        if (model.get("place")) (await model.widget_manager.get_model(model.get("place"))).close(true);
      };
      const watching = setInterval(() => {
        const wanted = (store.live || model.get("follows")) && !store.gone;
        if (wanted && store.views.size && document.visibilityState === "visible") model.send({ watching: store.frame });
      }, 1000);
      model.on("change:whole", whole);
      model.on("msg:custom", news);
      model.on("comm_live_update", gone);
      const pressed = () => told(store, { pressed: true });
      model.on("change:pressed", pressed);
      whole();
      return () => {
        clearInterval(watching);
        model.off("change:whole", whole);
        model.off("msg:custom", news);
        model.off("change:pressed", pressed);
      };
    },
    render({ model, el }) {
      return show(store, model, el);
    },
  };
};

// -- putting frames together -----------------------------------------------------------------------------------------

function take(store, news, whole) {
  if (whole) Object.assign(store, { live: news.live, frame: news.frame ?? 0, banner: null, charts: null, strip: null, gone: false });
  Object.assign(store.looks, news.looks);
  for (const part of ["banner", "charts", "strip"]) if (news[part]) store[part] = news[part];
  if (news.strip || whole) { store.lanes = []; store.stories.clear(); }
  const lanes = (news.lanes ?? []).map(([number, left, top, gap, drop, keep, rest]) => {
    const old = store.lanes[number]?.marks ?? [];
    const marks = old.slice(drop, drop + keep);
    for (const mark of [...old.slice(0, drop), ...old.slice(drop + keep)]) store.stories.delete(mark.event);
    for (let i = 0; i < rest.length; i += 3) marks.push({ gap: rest[i], look: rest[i + 1], event: rest[i + 2] });
    if (marks.length) marks[0] = { ...marks[0], gap };
    store.lanes[number] = { left, top, marks };
    return number;
  });
  for (const [event, story] of Object.entries(news.stories ?? {})) store.stories.set(Number(event), story);
  told(store, { ...news, lanes, all: whole });
}

function told(store, news) {
  for (const view of store.views) view(news);
}

// -- a view ------------------------------------------------------------------------------------------------------------

function show(store, model, el) {
  const root = element("section", el, { className: "eda-board" });
  root.setAttribute("aria-label", model.get("title") || "live board");
  if (model.get("title")) element("h4", root, { textContent: model.get("title") });
  const banner = makeBanner(root);
  const panels = element("div", root, { className: "panels" });
  const charts = makePanel(panels, "charts", narrowed, (panel) => paint(panel, panel.part.shapes));
  const strip = makePanel(panels, "strip", legible(store), (panel, lanes) => paintStrip(panel, store, lanes));
  const buttons = makeButtons(model, root);
  const speak = makeVoice(root);
  const pointer = makePointer(root, store, { charts, strip }, speak);
  const elsewhere = element("p", root, { className: "elsewhere", textContent: "The board stands beside the notebook." });
  let queued = 0;
  let due = { all: true, lanes: new Set() };
  let looked = false; // the notebook has moved on to the next cell: once, the board asks to be looked at

  function draw() {
    queued = 0;
    if (!root.clientWidth) return;
    dock();
    if (store.live && !looked) {
      looked = true;
      setTimeout(() => root.scrollIntoView({ block: "nearest" }), 300);
    }
    const now = due;
    due = { lanes: new Set() };
    if (now.all) for (const panel of [charts, strip]) panel.theme = theme(model.get("palettes"));
    if (now.all) for (const [part, css] of Object.entries(charts.theme)) root.style.setProperty(`--board-${part}`, css);
    panels.classList.toggle("stacked", (store.strip?.width ?? 0) > 700);
    if (now.all || now.banner) banner(store);
    if (now.all || now.charts) charts.draw(store.charts);
    if (now.all || now.strip) strip.draw(store.strip);
    else if (store.strip && now.lanes.size) strip.update(now.lanes);
    for (const button of buttons) button.draw(store.live);
    root.classList.toggle("gone", !!store.gone);
    if (!root.classList.contains("apart")) speak.verdict(store);
    pointer.say();
    root.dispatchEvent(new CustomEvent("eda-board-painted", { bubbles: true, detail: { frame: store.frame, at: store.at } }));
  }

  // Where it also stands beside the notebook, the one in the notebook is a line.
  function dock() {
    const before = store.docked.size;
    if (root.closest(".jupyterlab-sidecar")) store.docked.add(root);
    root.classList.toggle("docked", store.docked.has(root)); // its tab has the title
    root.classList.toggle("apart", store.docked.size > 0 && !store.docked.has(root));
    if (store.docked.size !== before) told(store, { all: true });
  }

  const queue = () => { queued ||= requestAnimationFrame(draw); };
  const view = (news) => {
    for (const part of ["all", "banner", "charts", "strip"]) due[part] ||= !!news[part];
    for (const lane of news.lanes ?? []) due.lanes.add(lane);
    queue();
  };
  const anew = () => { due.all = true; queue(); };
  const sizes = new ResizeObserver(anew);
  const themes = new MutationObserver(anew);
  const system = matchMedia("(prefers-color-scheme: dark)");
  sizes.observe(root);
  themes.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-name", "data-jp-theme-light"] });
  system.addEventListener("change", anew);
  store.views.add(view);
  queue();
  if (model.get("follows")) model.send({ watching: store.frame });
  return () => {
    store.views.delete(view);
    if (store.docked.delete(root)) told(store, { all: true });
    system.removeEventListener("change", anew);
    sizes.disconnect();
    themes.disconnect();
    cancelAnimationFrame(queued);
  };
}

function element(tag, parent, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

function makeBanner(root) {
  const box = element("div", root, { className: "banner", hidden: true });
  const words = element("p", box);
  const counts = element("div", box, { className: "counts" });
  return ({ banner }) => {
    box.hidden = !banner;
    if (!banner) return;
    box.className = `banner ${banner.tone}`;
    box.dataset.verdict = banner.text;
    if (words.textContent !== banner.words) words.textContent = banner.words;
    while (counts.children.length > banner.counts.length) counts.lastChild.remove();
    banner.counts.forEach(([name, count, colour], i) => {
      const one = counts.children[i] ?? element("div", counts);
      const [title, number] = one.children.length ? one.children : [element("span", one), element("b", one)];
      if (title.textContent !== name) title.textContent = name;
      const shown = count.toLocaleString("en");
      if (number.textContent !== shown) number.textContent = shown;
      number.style.color = `var(--board-${colour})`;
    });
  };
}

function makeButtons(model, root) {
  const names = model.get("faults");
  if (!names.length) return [];
  const row = element("div", root, { className: "faults", role: "group", ariaLabel: "Break something" });
  element("span", row, { textContent: "Break something", ariaHidden: "true" });
  return names.map((name) => {
    const button = element("button", row, { type: "button", textContent: name, onclick: () => model.send({ fault: name }) });
    button.draw = (live) => {
      button.disabled = !live;
      const holds = live && model.get("pressed").includes(name);
      button.classList.toggle("holds", holds);
      if (holds) button.setAttribute("aria-description", "holds"); // no toggle: a second press does not mend it
      else button.removeAttribute("aria-description");
    };
    return button;
  });
}

const STANDS_MS = 1000;

// What a screen reader says by itself: not each number, but what is thought of them, when that has become another and stays so
// for a moment; and at rest, the sentence as it stands. And the story of what the arrow keys have come to.
function makeVoice(root) {
  const words = element("p", root, { className: "spoken" });
  words.setAttribute("role", "status");
  let thought = "";
  let soon = 0;
  const speak = (text) => { if (words.textContent !== text) words.textContent = text; };
  speak.verdict = (store) => {
    const { banner, live, gone } = store;
    if (!banner) return;
    const kind = banner.words.replace(/[\d,]+ events?|[\d,]+/g, "some");
    const moving = banner.tone === "moving" && banner.words.split(",")[0];
    const now = gone ? "gone" : moving || `${kind} ${live}`;
    if (now === thought) return;
    thought = now;
    clearTimeout(soon);
    const tell = () => speak(gone ? "The kernel has gone. Run the cell again." : moving || store.banner.words);
    soon = setTimeout(tell, STANDS_MS);
  };
  return speak;
}

// -- painting ----------------------------------------------------------------------------------------------------------

const SMALLEST = 10; // CSS pixels, for text

// `fit` lays a part out for so many CSS pixels, `fill` paints it.
function makePanel(parent, name, fit, fill) {
  const box = element("div", parent, { className: `panel ${name}-panel`, hidden: true });
  const canvas = element("canvas", box, { className: name, tabIndex: 0 });
  canvas.setAttribute("role", "img");
  const panel = { box, canvas, g: canvas.getContext("2d"), sprites: {} };
  panel.draw = (part) => {
    box.hidden = !part;
    if (!part) return;
    canvas.style.maxWidth = `${Math.round(part.width * 1.15)}px`;
    canvas.style.minWidth = part.row ? `${Math.round(part.width * Math.min(1, (SMALLEST + 1) / part.row))}px` : "";
    if (document.activeElement !== canvas) canvas.setAttribute("aria-label", part.label); // who reads it is not interrupted
    panel.family = getComputedStyle(canvas).fontFamily;
    const wide = canvas.clientWidth;
    if (!wide) return;
    panel.part = part = fit(part, wide, panel);
    const scale = (wide / part.width) * (window.devicePixelRatio || 1);
    const [width, height] = [Math.round(part.width * scale), Math.round(part.height * scale)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    panel.scale = scale;
    panel.smallest = (SMALLEST * part.width) / wide; // in units
    panel.sprites = {};
    panel.g.setTransform(scale, 0, 0, scale, 0, 0);
    clear(panel, 0, 0, part.width + 1, part.height + 1);
    fill(panel);
  };
  panel.update = (lanes) => { if (panel.scale) fill(panel, lanes); };
  return panel;
}

function clear({ g, theme }, x, y, width, height) {
  g.fillStyle = theme.paper;
  g.fillRect(x, y, width, height);
}

function paint({ g, theme, family, part }, shapes) {
  for (const [kind, ...shape] of shapes) painters[kind](g, (name) => theme[name], shape, family, part?.width);
}

const painters = {
  rect(g, colour, [x, y, w, h, fill, stroke, width, radius, dash]) {
    g.beginPath();
    g.roundRect(x, y, w, h, radius);
    finish(g, colour, fill, stroke, width, dash);
  },
  line(g, colour, [points, stroke, width, dash, fill]) {
    g.beginPath();
    for (let i = 0; i < points.length; i += 2) g.lineTo(points[i], points[i + 1]);
    if (fill) g.closePath();
    finish(g, colour, fill, stroke, width, dash);
  },
  text(g, colour, [x, y, runs, size, anchor], family, edge) {
    const { left, widths, whole } = extent(g, family, [x, y, runs, size, anchor]);
    let at = edge ? Math.max(0, Math.min(left, edge - whole)) : left;
    runs.forEach(([words, fill, bold], i) => {
      g.font = font(bold, size, family);
      g.fillStyle = colour(fill);
      g.fillText(words, at, y);
      at += widths[i];
    });
  },
};

const font = (bold, size, family) => `${bold ? 700 : 400} ${size}px ${family}`;

function extent(g, family, [x, , runs, size, anchor]) {
  const widths = runs.map(([words, , bold]) => { g.font = font(bold, size, family); return g.measureText(words).width; });
  const whole = widths.reduce((a, b) => a + b, 0);
  return { left: x - (anchor === "end" ? whole : anchor === "middle" ? whole / 2 : 0), widths, whole };
}

function finish(g, colour, fill, stroke, width, dash) {
  if (fill) { g.fillStyle = colour(fill); g.fill(); }
  if (!stroke) return;
  g.strokeStyle = colour(stroke);
  g.lineWidth = width;
  g.setLineDash(dash ? [dash, dash] : []);
  g.stroke();
}

// -- less room than was laid out for --------------------------------------------------------------------------------------

const AXIS = 40; // units at the left of charts, for their numbers
const LINE = 15; // units, for a row of text
const APART = 8;

// Charts: time is pressed together, and nothing else. Texts that meet then give way: first the soft words behind a bold title;
// then the right one goes below, and all that is below makes room; a fault's or a second's is left out.
function narrowed(part, wide, { g, family }) {
  if (wide * 10.5 >= part.width * SMALLEST) return part; // 10.5 is the smallest text in them
  const across = (x) => (x <= AXIS ? x : AXIS + ((x - AXIS) * (wide - AXIS)) / (part.width - AXIS));
  const rows = new Map();
  for (const [kind, x, y, runs, size, anchor] of part.shapes) {
    if (kind === "text") rows.set(y, [...(rows.get(y) ?? []), [across(x), y, runs, size, anchor]]);
  }
  const [texts, broken] = [[], []]; // which rows became two
  for (const row of rows.values()) {
    const { kept, below } = madeRoom(row, wide, (text) => extent(g, family, text));
    texts.push(...kept);
    if (below.length) broken.push(row[0][1]);
    texts.push(...below.map(([, y, runs, size]) => [0, y + 0.1, runs, size, "start"])); // by itself it is further down, then
  }
  const down = (y) => y + LINE * broken.filter((row) => row < y).length;
  const others = part.shapes.filter(([kind]) => kind !== "text").map(([kind, ...shape]) => {
    if (kind === "line") return [kind, shape[0].map((v, i) => (i % 2 ? down(v) : across(v))), ...shape.slice(1)];
    const [x, y, w, h, ...rest] = shape;
    return [kind, across(x), down(y), across(x + w) - across(x), h, ...rest];
  });
  const hits = part.hits.map(([x, y, w, h, ...told]) => [across(x + w / 2) - w / 2, down(y), w, h, ...told]);
  const shapes = [...others, ...texts.flatMap(([x, y, ...text]) => aboveLines(["text", x, down(y), ...text], g, family))];
  return { ...part, width: wide, height: part.height + LINE * broken.length, shapes, hits };
}

function madeRoom(row, wide, measure) {
  const [kept, below] = [[], []];
  const right = (text) => measure(text).left + measure(text).whole;
  for (let text of [...row].sort((a, b) => measure(a).left - measure(b).left)) {
    text = shortened(text, (one) => right(one) <= wide);
    const free = () => !kept.length || right(kept.at(-1)) + APART <= measure(text).left;
    if (!free() && isTitle(kept.at(-1))) kept.at(-1)[2] = kept.at(-1)[2].slice(0, 1);
    if (free()) kept.push(text);
    else if (text[4] === "end") below.push(text);
  }
  return { kept, below };
}

// The name of a fault hides the line of another one that has come to stand in it.
function aboveLines([kind, ...text], g, family) {
  const [, y, runs, size] = text;
  const { left, whole } = extent(g, family, text);
  const ground = ["rect", left - 1, y - size + 1, whole + 2, size + 1, "paper", "", 0, 0, 0];
  return runs[0][1] === "fault" ? [ground, [kind, ...text]] : [[kind, ...text]];
}

const isTitle = ([, , [[, , bold]]]) => bold;

// The names of a chart's lines, each two runs, a dot before it: as many as fit, and how many more there are.
function shortened(text, fits) {
  const [x, y, runs, size, anchor] = text;
  const names = Math.floor(runs.length / 2);
  const untold = runs.length % 2 ? Number.parseInt(runs.at(-1)[0].split("+")[1], 10) : 0;
  if (isTitle(text) || names < 2) return text;
  for (let few = names; few > 0; few--) {
    const more = names - few + untold;
    text = [x, y, [...runs.slice(0, 2 * few), ...(more ? [[`   +${more}`, "soft", false]] : [])], size, anchor];
    if (fits(text)) break;
  }
  return text;
}

// The strip gets smaller as a whole, but for its texts: a key that would run into its first mark keeps its end, and what
// would run into the title is left out.
function legible(store) {
  return (part, wide, { g, family }) => {
    const smallest = (SMALLEST * part.width) / wide;
    const starts = store.lanes.map((lane) => lane.left);
    let before = -APART;
    const shapes = part.shapes.flatMap((shape) => {
      const [kind, x, y, runs, size, anchor] = shape;
      if (kind !== "text" || anchor === "middle") return [shape]; // a mark's own, in the legend
      const text = [x, Math.max(y, smallest), runs, Math.max(size, smallest), anchor];
      const { left, whole } = extent(g, family, text);
      if (anchor === "end" && left < before + APART) return [];
      if (anchor === "end" || runs[0][2]) { before = left + whole; return [["text", ...text]]; }
      const room = Math.min(...starts.filter((start) => start > x)) - x - 4;
      const named = store.lanes.some((lane) => lane.left > x && Math.abs(lane.top + 10 * part.scale - y) < 0.2);
      if (!named || whole <= room) return [["text", ...text]];
      let words = runs[0][0];
      const end = () => [x, text[1], [[`…${words}`, runs[0][1], false]], text[3], anchor];
      do words = words.slice(1); while (words.length > 1 && extent(g, family, end()).whole > room);
      return [["text", ...end()]];
    });
    return { ...part, shapes };
  };
}

// -- the strip -----------------------------------------------------------------------------------------------------------

const MARGIN = 2; // units around a mark: some looks reach over its square
const SQUARE = 12;

function paintStrip(panel, store, only) {
  if (!only) paint(panel, panel.part.shapes);
  for (const number of only ?? store.lanes.keys()) if (store.lanes[number]) paintLane(panel, store, store.lanes[number]);
}

function paintLane(panel, store, lane) {
  const { g, theme } = panel;
  const { scale, row } = store.strip;
  const places = [...placed(store, lane)];
  const end = places.length ? places[places.length - 1].x + SQUARE * scale + MARGIN : lane.left;
  clear(panel, lane.left - MARGIN, lane.top - MARGIN * scale, Math.max(end, lane.end ?? 0) - lane.left + 2 * MARGIN, row - 0.5);
  lane.end = end;
  places.forEach(({ mark, x }, i) => {
    if (!mark.gap) return;
    g.font = font(false, Math.max(panel.smallest, 9 * scale), panel.family);
    g.fillStyle = theme.soft;
    const before = i ? places[i - 1].x + SQUARE * scale + 1 : lane.left;
    const words = [`+${mark.gap}`, "…"].find((one) => before + g.measureText(one).width <= x - 2 * scale) ?? "";
    const room = x - before - g.measureText(words).width;
    g.fillText(words, x - Math.min(4 * scale, room / 2) - g.measureText(words).width, lane.top + 9.5 * scale);
  });
  g.save();
  g.setTransform(1, 0, 0, 1, 0, 0); // on whole pixels: the edges of marks are sharp
  const pixel = (units) => Math.round((units - MARGIN * scale) * panel.scale);
  for (const { mark, x } of places) g.drawImage(sprite(panel, store, mark.look), pixel(x), pixel(lane.top));
  g.restore();
}

function* placed(store, lane) {
  const { pitch } = store.strip;
  let x = lane.left;
  for (const mark of lane.marks) {
    if (mark.gap) x += 2 * pitch;
    yield { mark, x, y: lane.top };
    x += pitch;
  }
}

function sprite(panel, store, look) {
  if (panel.sprites[look]) return panel.sprites[look];
  const canvas = document.createElement("canvas");
  const scale = panel.scale * store.strip.scale;
  canvas.width = canvas.height = Math.ceil((SQUARE + 2 * MARGIN) * scale);
  const g = canvas.getContext("2d");
  const exact = canvas.width / (SQUARE + 2 * MARGIN);
  g.setTransform(exact, 0, 0, exact, MARGIN * exact, MARGIN * exact);
  paint({ ...panel, g, part: null }, store.looks[look]);
  panel.sprites[look] = canvas;
  return canvas;
}

// JupyterLab says its colours in CSS variables; elsewhere the reader's system decides.
function theme(palettes) {
  const style = getComputedStyle(document.body);
  const paper = style.getPropertyValue("--jp-layout-color0").trim();
  const dark = paper ? isDark(paper) : matchMedia("(prefers-color-scheme: dark)").matches;
  return { ...palettes[dark ? "dark" : "light"], ...(paper && { paper }) };
}

function isDark(css) {
  const g = document.createElement("canvas").getContext("2d");
  g.fillStyle = css;
  g.fillRect(0, 0, 1, 1);
  const [r, green, b] = g.getImageData(0, 0, 1, 1).data;
  return 0.299 * r + 0.587 * green + 0.114 * b < 128;
}

// -- pointing ----------------------------------------------------------------------------------------------------------

// Places that tell something: marks, by event, and faults on the time axis.
function makePointer(root, store, { charts, strip }, speak) {
  const story = element("div", root, { className: "story", hidden: true });
  const ring = element("div", root, { className: "ring", hidden: true });
  let at = null; // { panel, event } of a mark, or { panel, fault }

  const marks = () => (store.strip ? store.lanes.flatMap((lane) => [...placed(store, lane)]) : []);
  const size = () => SQUARE * (store.strip?.scale ?? 1);

  function place() {
    if (at?.panel === strip) {
      const found = marks().find(({ mark }) => mark.event === at.event);
      const told = found && store.stories.get(at.event);
      return told && { x: found.x, y: found.y, w: size(), h: size(), title: told[0], lines: told[1] };
    }
    const hit = at && charts.part?.hits[at.fault];
    return hit && { x: hit[0], y: hit[1], w: hit[2], h: hit[3], title: hit[4], lines: hit[5] };
  }

  function tell() {
    const here = place();
    story.hidden = ring.hidden = !here;
    for (const { canvas } of [charts, strip]) canvas.style.cursor = here ? "pointer" : "";
    if (!here) return;
    story.replaceChildren();
    element("b", story, { textContent: here.title });
    const list = element("p", story);
    for (const [second, words] of here.lines) {
      element("i", list, { textContent: `${second.toFixed(3)} s` });
      element("span", list, { textContent: words });
    }
    const { box, canvas, part } = at.panel;
    const scale = canvas.clientWidth / part.width;
    const [left, top] = [canvas.offsetLeft - box.scrollLeft + here.x * scale, canvas.offsetTop + here.y * scale];
    const middle = left + (here.w * scale) / 2 - story.offsetWidth / 2;
    story.style.left = `${Math.max(0, Math.min(middle, root.clientWidth - story.offsetWidth))}px`;
    const above = top - story.offsetHeight - 6;
    story.style.top = `${here.y > part.height / 2 && above > 0 ? above : top + here.h * scale + 6}px`;
    ring.hidden = at.panel !== strip;
    Object.assign(ring.style, {
      left: `${left - 3}px`, top: `${top - 3}px`, width: `${here.w * scale + 2}px`, height: `${here.h * scale + 2}px`,
    });
  }

  function point(panel, event) {
    const scale = panel.canvas.clientWidth / panel.part.width;
    const [x, y] = [event.offsetX / scale, event.offsetY / scale];
    if (panel === strip) {
      const { pitch, row, scale: small } = store.strip;
      const found = marks().find((one) => x >= one.x - 2 && x < one.x + pitch - 2 && y >= one.y - 6 * small && y < one.y + row - 6 * small);
      at = found ? { panel, event: found.mark.event } : null;
    } else {
      const fault = (panel.part.hits ?? []).findIndex(([left, top, w, h]) => x >= left && x < left + w && y >= top && y < top + h);
      at = fault >= 0 ? { panel, fault } : null;
    }
    tell();
  }

  // Arrow keys walk from mark to mark, up and down from key to key, and from fault to fault, for those who do not point.
  function walk(panel, event) {
    if (event.key === "Escape") at = null;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      at = panel === strip ? next(step, event.key) : following(panel, step);
      event.preventDefault();
      event.stopPropagation();
    }
    const here = place();
    if (step && here) {
      panel.box.scrollLeft = (here.x * panel.canvas.clientWidth) / panel.part.width - panel.box.clientWidth / 2;
      speak([here.title, ...here.lines.map(([second, words]) => `${second.toFixed(3)} s ${words}`)].join("; "));
    }
    tell();
  }

  function next(step, key) {
    const lanes = store.lanes.filter((lane) => lane.marks.length);
    if (!lanes.length) return null;
    const number = lanes.findIndex((lane) => lane.marks.some((mark) => mark.event === at?.event));
    if (number < 0) return { panel: strip, event: lanes[0].marks[0].event };
    if (key === "ArrowUp" || key === "ArrowDown") {
      const lane = lanes[(number + step + lanes.length) % lanes.length];
      const column = lanes[number].marks.findIndex((mark) => mark.event === at.event);
      return { panel: strip, event: lane.marks[Math.min(column, lane.marks.length - 1)].event };
    }
    const all = lanes.flatMap((lane) => lane.marks);
    const here = all.findIndex((mark) => mark.event === at.event);
    return { panel: strip, event: all[(here + step + all.length) % all.length].event };
  }

  function following(panel, step) {
    const count = charts.part?.hits.length ?? 0;
    return count ? { panel, fault: at?.panel === panel ? (at.fault + step + count) % count : 0 } : null;
  }

  const forget = () => { at = null; tell(); };
  for (const panel of [charts, strip]) {
    for (const touched of ["pointerdown", "pointermove"]) panel.canvas.addEventListener(touched, (event) => point(panel, event));
    panel.box.addEventListener("scroll", tell);
    panel.canvas.addEventListener("pointerleave", forget);
    panel.canvas.addEventListener("blur", forget);
    panel.canvas.addEventListener("keydown", (event) => walk(panel, event));
  }
  // Where there is something to walk to, a screen reader hands the arrow keys on.
  function say() {
    const reached = [[charts, charts.part?.hits.length, "faults"], [strip, store.lanes.some((lane) => lane.marks.length), "events"]];
    for (const [{ canvas }, some, what] of reached) {
      if ((canvas.getAttribute("role") === "application") === !!some) continue;
      canvas.setAttribute("role", some ? "application" : "img");
      canvas.setAttribute("aria-description", some ? `the arrow keys walk over its ${what}` : "");
    }
    tell();
  }
  return { say };
}
