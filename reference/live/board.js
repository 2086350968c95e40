// Paints the shapes of a frame (reference/live/scene.py) on a canvas; the layout is Python's, colours follow the theme.

const paint = {
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
  text(g, colour, [x, y, runs, size, anchor], family) {
    const font = (bold) => `${bold ? 700 : 400} ${size}px ${family}`;
    const widths = runs.map(([words, , bold]) => { g.font = font(bold); return g.measureText(words).width; });
    const whole = widths.reduce((a, b) => a + b, 0);
    let at = x - (anchor === "end" ? whole : anchor === "middle" ? whole / 2 : 0);
    runs.forEach(([words, fill, bold], i) => {
      g.font = font(bold);
      g.fillStyle = colour(fill);
      g.fillText(words, at, y);
      at += widths[i];
    });
  },
};

function finish(g, colour, fill, stroke, width, dash) {
  if (fill) { g.fillStyle = colour(fill); g.fill(); }
  if (!stroke) return;
  g.strokeStyle = colour(stroke);
  g.lineWidth = width;
  g.setLineDash(dash ? [dash, dash] : []);
  g.stroke();
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

function element(tag, parent, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

function render({ model, el }) {
  const root = element("div", el, { className: "eda-board" });
  if (model.get("title")) element("h4", root, { textContent: model.get("title") });
  const canvas = element("canvas", root, { tabIndex: 0 });
  canvas.setAttribute("role", "img");
  const buttons = faults(model, root);
  const story = element("div", root, { className: "story", hidden: true });
  const g = canvas.getContext("2d");
  let queued = 0;
  let hits = []; // [x, y, w, h, title, [[seconds, what], …]], kept while a frame comes without
  let shown = false; // the notebook has moved on to the next cell: once, the board asks to be looked at
  let told = null; // the place whose story is open, by its middle

  function draw() {
    queued = 0;
    const frame = model.get("frame");
    const width = root.clientWidth;
    if (!frame?.shapes || !width) return;
    if (frame.live && !shown) {
      shown = true;
      setTimeout(() => root.scrollIntoView({ block: "nearest" }), 300);
    }
    const parts = theme(model.get("palettes"));
    for (const [part, css] of Object.entries(parts)) root.style.setProperty(`--board-${part}`, css);
    const scale = (width / frame.width) * (window.devicePixelRatio || 1);
    resize(canvas, Math.round(frame.width * scale), Math.round(frame.height * scale));
    g.setTransform(scale, 0, 0, scale, 0, 0);
    const family = getComputedStyle(root).fontFamily;
    for (const [kind, ...shape] of JSON.parse(frame.shapes)) paint[kind](g, (part) => parts[part], shape, family);
    canvas.setAttribute("aria-label", frame.label);
    if (frame.hits) hits = JSON.parse(frame.hits);
    for (const button of buttons) button.disabled = !frame.live;
    tell();
  }

  function tell() {
    const frame = model.get("frame");
    const hit = told && hits.find(([x, y, w, h]) => told[0] >= x && told[0] < x + w && told[1] >= y && told[1] < y + h);
    story.hidden = !hit;
    canvas.style.cursor = hit ? "pointer" : "";
    if (!hit) return;
    const [x, y, w, h, title, lines] = hit;
    story.replaceChildren();
    element("b", story, { textContent: title });
    const list = element("p", story);
    for (const [at, words] of lines) {
      element("i", list, { textContent: `${at.toFixed(3)} s` });
      element("span", list, { textContent: words });
    }
    const scale = canvas.clientWidth / frame.width;
    const left = (x + w / 2) * scale - story.offsetWidth / 2;
    story.style.left = `${Math.max(0, Math.min(left, root.clientWidth - story.offsetWidth))}px`;
    const below = canvas.offsetTop + (y + h) * scale + 2;
    const above = canvas.offsetTop + y * scale - story.offsetHeight - 2;
    story.style.top = `${y > frame.height / 2 && above > 0 ? above : below}px`;
  }

  function point(event) {
    const scale = canvas.clientWidth / model.get("frame").width;
    told = [event.offsetX / scale, event.offsetY / scale];
    tell();
  }

  // Arrow keys walk from mark to mark, for those who do not point.
  function walk(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") told = null;
    if (step) {
      const here = told ? hits.findIndex(([x, y, w, h]) => Math.hypot(told[0] - x - w / 2, told[1] - y - h / 2) < 1) : -1;
      const next = hits[(here + step + hits.length) % hits.length];
      if (next) told = [next[0] + next[2] / 2, next[1] + next[3] / 2];
      event.preventDefault();
      event.stopPropagation();
    }
    tell();
  }

  const queue = () => { queued ||= requestAnimationFrame(draw); };
  const forget = () => { told = null; tell(); };
  const sizes = new ResizeObserver(queue);
  const themes = new MutationObserver(queue);
  const system = matchMedia("(prefers-color-scheme: dark)");
  sizes.observe(root);
  themes.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-name", "data-jp-theme-light"] });
  system.addEventListener("change", queue);
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerleave", forget);
  canvas.addEventListener("blur", forget);
  canvas.addEventListener("keydown", walk);
  model.on("change:frame", queue);
  queue();
  return () => {
    model.off("change:frame", queue);
    system.removeEventListener("change", queue);
    sizes.disconnect();
    themes.disconnect();
    cancelAnimationFrame(queued);
  };
}

function resize(canvas, width, height) {
  if (canvas.width === width && canvas.height === height) return;
  canvas.width = width;
  canvas.height = height;
}

function faults(model, root) {
  const names = model.get("faults");
  if (!names.length) return [];
  const row = element("div", root, { className: "faults" });
  element("span", row, { textContent: "Break something" });
  return names.map((name) =>
    element("button", row, { type: "button", textContent: name, onclick: () => model.send({ fault: name }) }));
}

export default { render };
