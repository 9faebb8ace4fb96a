// Axes, lines and marks in SVG, drawn at the width that there is.

const MARGIN = { top: 10, right: 14, bottom: 42 };

const linear = ([d0, d1], [r0, r1]) => (v) => r0 + ((v - d0) / (d1 - d0 || 1)) * (r1 - r0);
const logarithmic = ([d0, d1], to) => {
  const straight = linear([Math.log(d0), Math.log(d1)], to);
  return (v) => straight(Math.log(v));
};

// Round numbers in a domain, about `most` of them.
function linearTicks([low, high], most) {
  const raw = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return range(Math.floor(high / step + 1e-9) - first + 1).map((i) => +((first + i) * step).toPrecision(12));
}
function logTicks([low, high], most) {
  const decades = range(16).flatMap((p) => [1, 2, 5].map((m) => m * 10 ** (p - 8)));
  const inside = decades.filter((v) => v >= low * 0.999 && v <= high * 1.001);
  return inside.length <= most ? inside : inside.filter((v) => Number.isInteger(+Math.log10(v).toFixed(9)));
}

const ticksOf = (axis, most) => axis.ticks ?? (axis.log ? logTicks : linearTicks)(axis.domain, Math.max(2, most));

// The outline of a mark of radius r at (x, y).
function symbol(name, x, y, r) {
  if (name === "square") return `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
  if (name === "diamond") return `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`;
  if (name === "triangle") return `M${x} ${y - 1.2 * r}l${1.2 * r} ${2.1 * r}h${-2.4 * r}z`;
  return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
}

class Chart {
  // x and y: { domain, label, log, ticks, format }; label is read aloud.
  constructor(host, { x, y, height = 320, label }) {
    const width = Math.max(200, Math.floor(host.clientWidth) || 320);
    Object.assign(this, { width, height });
    const [top, bottom] = [MARGIN.top, height - MARGIN.bottom];
    const [xs, ys] = [ticksOf(x, (width - 70) / 64), ticksOf(y, (bottom - top) / 44)];
    const longest = Math.max(...ys.map((v) => (y.format ?? brief)(v).length));
    this.inner = [Math.max(44, 31 + 7 * longest), width - MARGIN.right, bottom, top];
    const [left, right] = this.inner;
    this.X = (x.log ? logarithmic : linear)(x.domain, [left, right]);
    this.Y = (y.log ? logarithmic : linear)(y.domain, [bottom, top]);
    this.svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
    this.axes(x, xs, y, ys);
    host.replaceChildren(this.svg);
  }

  add(tag, attrs, ...children) {
    const node = shape(tag, attrs, ...children);
    this.svg.append(node);
    return node;
  }

  axes(x, xs, y, ys) {
    const [left, right, bottom, top] = this.inner;
    for (const v of ys) {
      const at = this.Y(v);
      this.add("path", { d: `M${left} ${at}H${right}`, class: "grid" });
      this.add("text", { x: left - 7, y: at + 4, class: "tick end", text: (y.format ?? brief)(v) });
    }
    for (const v of xs) {
      const at = this.X(v);
      this.add("path", { d: `M${at} ${bottom}v4`, class: "axis" });
      this.add("text", { x: at, y: bottom + 17, class: "tick middle", text: (x.format ?? brief)(v) });
    }
    this.add("path", { d: `M${left} ${bottom}H${right}`, class: "axis" });
    this.add("text", { x: (left + right) / 2, y: this.height - 6, class: "label middle", text: x.label });
    const turn = `translate(13 ${(top + bottom) / 2}) rotate(-90)`;
    this.add("text", { transform: turn, class: "label middle", text: y.label });
  }

  // points: [x, y] pairs; a gap where y is not known.
  line(points, style, dash = "") {
    let pen = "M";
    let d = "";
    for (const [x, y] of points) {
      if (!known(y)) { pen = "M"; continue; }
      d += `${pen}${this.X(x).toFixed(1)} ${this.Y(y).toFixed(1)}`;
      pen = "L";
    }
    return this.add("path", { d, class: `line ${style}`, "stroke-dasharray": dash || null });
  }

  // Many marks in one element; circles are strokes of length zero, which are short to write.
  marks(points, style, { mark = "circle", r = 3 } = {}) {
    const at = ([x, y]) => [+this.X(x).toFixed(1), +this.Y(y).toFixed(1)];
    if (mark === "circle") {
      const d = points.map((p) => `M${at(p).join(" ")}h0`).join("");
      return this.add("path", { d, class: `dots ${style}`, "stroke-width": 2 * r });
    }
    const d = points.map((p) => symbol(mark, ...at(p), r)).join("");
    return this.add("path", { d, class: `fill ${style}` });
  }

  crosses(points, style, r = 2.5) {
    const d = points.map(([x, y]) => {
      const [u, v] = [this.X(x).toFixed(1), this.Y(y).toFixed(1)];
      return `M${u} ${v}m${-r} ${-r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`;
    }).join("");
    return this.add("path", { d, class: `line thin ${style}` });
  }

  upright(x, style, text) {
    const [left, right, bottom, top] = this.inner;
    const at = this.X(x);
    const node = this.add("path", { d: `M${at} ${bottom}V${top}`, class: `line ${style}` });
    if (text) {
      const over = at > (left + right) / 2;
      this.add("text", { x: at + (over ? -5 : 5), y: top + 11, class: `tick ${over ? "end" : ""}`, text });
    }
    return node;
  }

  // Tell of the nearest of points [x, y, lines] under the pointer; lines is a function.
  hover(points) {
    const places = points.map(([x, y]) => [this.X(x), this.Y(y)]);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      const scale = this.width / box.width;
      const [px, py] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
      let [best, least] = [-1, 20 ** 2];
      places.forEach(([x, y], i) => {
        const far = (x - px) ** 2 + (y - py) ** 2;
        if (far < least) [best, least] = [i, far];
      });
      if (best < 0) hideTip();
      else showTip(event.clientX, event.clientY, points[best][2]());
    });
    this.svg.addEventListener("pointerleave", hideTip);
  }
}

// The axis of classes from largest to smallest, with their sizes at the ticks.
function rankAxis(sizes) {
  const n = sizes.length;
  const most = Math.min(n, 6);
  const ticks = range(most).map((i) => Math.round((i * (n - 1)) / Math.max(most - 1, 1)));
  return {
    domain: [0, Math.max(n - 1, 1)], ticks, format: (i) => count(Math.round(sizes[i])),
    label: "classes, largest to smallest (training images)",
  };
}

// A little room around values, so that no mark is cut.
function padded(values, share = 0.05, [least, most] = [-Infinity, Infinity]) {
  const there = values.filter(known);
  const [low, high] = [Math.min(...there), Math.max(...there)];
  const room = (high - low || Math.abs(high) || 1) * share;
  return [Math.max(least, low - room), Math.min(most, high + room)];
}
