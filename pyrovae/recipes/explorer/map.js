// The map of codes: its dots, grid, names and marks.

const side = () => $("map").clientWidth;
const pixel = ([p, q]) => [side() * (0.5 + p / (2 * state.reach)), side() * (0.5 - q / (2 * state.reach))];
const place = (event) => {
  const box = $("map").getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((t, k) => (k ? 1 : -1) * (1 - 2 * t) * state.reach);
};

function drawMap() {
  const canvas = $("map"), dots = window.devicePixelRatio || 1, context = canvas.getContext("2d");
  canvas.width = canvas.height = Math.round(side() * dots);
  context.scale(dots, dots);
  context.font = "12px system-ui, sans-serif";
  grid(context);
  for (let n = 0; n < count; n++) {
    const label = model.labels ? model.labels[n] : null, [x, y] = pixel(state.places[n]);
    context.globalAlpha = state.alone === null ? 0.75 : label === state.alone ? 1 : 0.08;
    context.fillStyle = hue(label);
    context.beginPath();
    context.arc(x, y, 3, 0, 7);
    context.fill();
  }
  context.globalAlpha = 1;
  names(context);
  if (state.end) route(context);
  mark(context, pixel(state.plane.to(state.z, null)));
}

function grid(context) {
  const step = state.reach > 12 ? 5 : state.reach > 6 ? 2 : 1, whole = Math.floor(state.reach / step) * step;
  context.strokeStyle = colour("--line");
  context.fillStyle = colour("--quiet");
  context.lineWidth = 1;
  for (let a = -whole; a <= whole; a += step) {
    const [x, y] = pixel([a, a]);
    context.globalAlpha = a === 0 ? 1 : 0.45;
    context.beginPath();
    context.moveTo(x, 0), context.lineTo(x, side());
    if (state.plane.axes[1] || a === 0) context.moveTo(0, y), context.lineTo(side(), y);
    context.stroke();
    context.globalAlpha = 1;
    if (a && Math.abs(a) < state.reach * 0.93) {
      context.fillText(a, x + 3, side() - 5);
      if (state.plane.axes[1]) context.fillText(a, 4, y - 3);
    }
  }
  context.textAlign = "right";
  context.fillText(state.plane.axes[0], side() - 5, side() / 2 + 14);
  context.textAlign = "left";
  context.fillText(state.plane.axes[1], side() / 2 + 5, 14);
}

// Each class by its name at the middle of its dots, for those who cannot tell the colours apart.
function names(context) {
  if (classes.length < 2 || classes.length > 20) return;
  context.save();
  Object.assign(context, { font: "bold 15px system-ui, sans-serif", textAlign: "center", textBaseline: "middle", lineWidth: 5, lineJoin: "round" });
  for (const label of classes) {
    if (state.alone !== null && label !== state.alone) continue;
    const own = state.places.filter((_, n) => model.labels[n] === label).map(pixel);
    const [x, y] = [0, 1].map((k) => own.map((p) => p[k]).sort((a, b) => a - b)[own.length >> 1]);
    context.strokeStyle = colour("--page");
    context.strokeText(label, x, y);
    context.fillStyle = hue(label);
    context.fillText(label, x, y);
  }
  context.restore();
}

function mark(context, [x, y]) {
  for (const [stroke, lineWidth] of [[colour("--page"), 6], [colour("--text"), 2.5]]) {
    Object.assign(context, { strokeStyle: stroke, lineWidth });
    context.beginPath();
    context.arc(x, y, 8, 0, 7);
    context.stroke();
  }
}

function route(context) {
  const [from, to] = [state.start, state.end].map((z) => pixel(state.plane.to(z, null)));
  for (const [stroke, lineWidth] of [[colour("--page"), 6], [colour("--text"), 2]]) {
    Object.assign(context, { strokeStyle: stroke, lineWidth });
    context.beginPath();
    context.moveTo(...from), context.lineTo(...to);
    context.stroke();
  }
}
