"use strict";
// The page: one current point z; all that is shown follows from it.

const model = Net.read(JSON.parse(document.getElementById("model").textContent));

const Explorer = (() => {
  const $ = (id) => document.getElementById(id);
  const size = model.size, count = model.codes.shape[0], few = 12, steps = 9;
  const [channels, height, width] = model.image ? model.event_shape : [0, 0, 0];
  const code = (n) => Array.from(model.codes.data.slice(n * size, (n + 1) * size));
  const limit = model.limit;
  const state = { z: code(0), amounts: [], plane: null, start: null, end: null, alone: null, datum: 0, walking: false };
  const uniforms = Array.from({ length: channels * height * width }, Math.random);

  // ---- pictures

  function paint(canvas, x) {
    const context = canvas.getContext("2d");
    if (!model.image) return bars(canvas, context, x);
    canvas.width = width;
    canvas.height = height;
    canvas.classList.add("pixels");
    const pixels = context.createImageData(width, height), area = width * height;
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = 255 * Math.min(Math.max(x[(channels === 3 ? c : 0) * area + i], 0), 1);
      pixels.data[4 * i + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
  }

  function bars(canvas, context, x) {
    const [low, high] = model.range, at = (a) => 190 - (180 * (a - low)) / (high - low);
    canvas.width = 300;
    canvas.height = 200;
    context.fillStyle = colour("--strong");
    x.forEach((a, i) => {
      const top = Math.min(at(a), at(Math.max(low, Math.min(0, high)))), bottom = Math.max(at(a), at(Math.max(low, Math.min(0, high))));
      context.fillRect(5 + (290 * i) / x.length, top, Math.max(1, 230 / x.length), Math.max(1, bottom - top));
    });
  }

  const decode = (z) => Net.run(model.decoder, z);

  function showStrip(points, names) {
    const strip = $("strip");
    while (strip.children.length < points.length) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(document.createElement("canvas"));
      strip.append(button);
    }
    points.forEach((z, i) => {
      const button = strip.children[i];
      button.setAttribute("aria-label", names(i));
      button.title = names(i);
      button.onclick = () => go(z, { text: names(i) });
      paint(button.firstChild, decode(z));
    });
  }

  // ---- the current point

  const shown = (a) => (Math.abs(a) < 0.005 ? 0 : a).toFixed(2);

  function go(z, { text = "", amounts = false, datum = null } = {}) {
    state.z = Array.from(z);
    state.datum = datum;
    if (!amounts) state.amounts.fill(0);
    paint($("picture"), decode(state.z));
    $("status").textContent = text || "z = (" + model.order.slice(0, 4).map((d) => shown(state.z[d])).join(", ") + (size > 4 ? ", …)" : ")");
    refresh();
  }

  function refresh() {
    for (const [input, get] of sliders) {
      input.value = get();
      input.parentNode.lastChild.textContent = shown(get());
    }
    drawMap();
  }

  function about(n) {
    return `Test datum ${n}` + (model.labels ? `, class ${model.labels[n]}` : "");
  }

  // ---- sliders

  const sliders = [];

  function slider(parent, name, note, reach, step, get, set) {
    const row = document.createElement("label"), input = document.createElement("input");
    const title = document.createElement("span"), small = document.createElement("small");
    row.className = "slider";
    title.textContent = name;
    small.textContent = note;
    title.append(small);
    Object.assign(input, { type: "range", min: -reach, max: reach, step });
    input.setAttribute("aria-label", name);
    input.oninput = () => set(Number(input.value));
    row.append(title, input, document.createElement("output"));
    parent.append(row);
    sliders.push([input, get]);
    return row;
  }

  function dims() {
    const rows = model.order.map((d) => slider($("sliders"), `z${d}`, shown(model.used[d]), limit, 0.01,
      () => state.z[d],
      (a) => go(state.z.map((b, e) => (e === d ? a : b)), { amounts: true })));
    $("order").textContent = model.used_means;
    const fold = (all) => {
      rows.forEach((row, i) => (row.hidden = !all && i >= few));
      $("more").textContent = all ? `Show the first ${few}` : `Show all ${size}`;
      $("more").onclick = () => fold(!all);
    };
    $("more").hidden = size <= few;
    fold(size <= few);
  }

  function directions() {
    $("attributes").hidden = !model.directions.length;
    model.directions.forEach(({ name, direction }, k) => {
      state.amounts.push(0);
      slider($("directions"), name, "", 1.5, 0.05, () => state.amounts[k], (a) => {
        const step = a - state.amounts[k];
        state.amounts[k] = a;
        go(state.z.map((b, d) => b + step * direction.data[d]), { amounts: true });
      });
    });
  }

  // ---- the map

  const LIGHT = ["#0063a6", "#c44500", "#007a56", "#a8388a", "#7a6200", "#c1121f", "#5b3fb5", "#00788c", "#555b66", "#6e3b1e"];
  const DARK = ["#6cb8ff", "#ff9a5c", "#4fd1a0", "#f09ad8", "#e3cf57", "#ff8389", "#b9a5ff", "#5fd6e8", "#b8bec8", "#d6a787"];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const classes = model.labels ? [...new Set(model.labels)].sort((a, b) => a - b) : [];
  const hue = (label) => (label === null ? colour("--strong") : (dark.matches ? DARK : LIGHT)[classes.indexOf(label) % LIGHT.length]);

  // A plane of latent space: from z to a place on it, and from a place to z.
  function active(a, b) {
    return {
      name: b === null ? `z${a} (heights mean nothing)` : `z${a} and z${b}`,
      axes: [`z${a}`, b === null ? "" : `z${b}`],
      to: (z, n) => [z[a], b === null ? (n === null ? 0 : limit * (2 * ((n * 0.618034) % 1) - 1) * 0.6) : z[b]],
      from: ([p, q]) => state.z.map((c, d) => (d === a ? p : d === b ? q : c)),
    };
  }

  function principal({ mean, axes, share }) {
    const m = mean.data, v = axes.data;
    return {
      name: `principal plane, ${Math.round(100 * share)}% of variance`,
      axes: ["component 1", "component 2"],
      to: (z) => [0, 1].map((k) => z.reduce((sum, a, d) => sum + (a - m[d]) * v[k * size + d], 0)),
      from: ([p, q]) => state.z.map((_, d) => m[d] + p * v[d] + q * v[size + d]),
    };
  }

  const used = model.order.slice(0, 2).sort((a, b) => a - b);
  const planes = [active(used[0], size > 1 ? used[1] : null)];
  if (model.principal) planes.push(principal(model.principal));

  function choose(plane) {
    state.plane = plane;
    state.places = Array.from({ length: count }, (_, n) => plane.to(code(n), n));
    state.reach = 1.05 * Math.max(3, ...state.places.map(([p, q]) => Math.max(Math.abs(p), Math.abs(q))));
    drawMap();
  }

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

  // The datum under the pointer, if there is one.
  function nearest(spot) {
    const [x, y] = pixel(spot);
    let best = null, least = 10;
    state.places.forEach((other, n) => {
      const [a, b] = pixel(other), distance = Math.hypot(a - x, b - y);
      if (distance < least && (state.alone === null || model.labels[n] === state.alone)) (best = n), (least = distance);
    });
    return best;
  }

  function press(event) {
    const spot = place(event), n = $("snap").checked ? nearest(spot) : null;
    const z = n === null ? state.plane.from(spot) : code(n);
    const text = n === null ? "" : about(n);
    if (event.shiftKey) return walk(state.z, z);
    if (!state.walking) return go(z, { text, datum: n });
    if (state.start && !state.end) return walk(state.start, z);
    [state.start, state.end] = [z, null];
    go(z, { text: `${text} Walk from here; press the place to go to.`.trim(), datum: n });
  }

  function pointer() {
    const canvas = $("map");
    let down = false;
    canvas.onpointerdown = (event) => {
      down = true;
      press(event);
    };
    canvas.onpointermove = (event) => {
      if (down && !state.walking && !event.shiftKey) go(state.plane.from(place(event)));
    };
    for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => (down = false));
    canvas.onkeydown = (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const at = state.plane.to(state.z, null), far = state.reach / (event.shiftKey ? 10 : 50);
      go(state.plane.from([at[0] + far * step[0], at[1] + far * step[1]]));
    };
  }

  function legend() {
    $("classes").replaceChildren(...(classes.length > 1 && classes.length <= 20 ? classes : []).map((label) => {
      const button = document.createElement("button"), dot = document.createElement("i");
      button.type = "button";
      dot.style.background = hue(label);
      button.append(dot, `${label}`);
      button.setAttribute("aria-pressed", state.alone === label);
      button.setAttribute("aria-label", `class ${label} alone`);
      button.onclick = () => {
        state.alone = state.alone === label ? null : label;
        legend();
        drawMap();
      };
      return button;
    }));
  }

  // ---- walks and draws

  function between(t) {
    return state.start.map((a, d) => a + t * (state.end[d] - a));
  }

  function walk(start, end) {
    Object.assign(state, { start, end });
    $("walk").hidden = false;
    const at = (i) => i / (steps - 1);
    showStrip(Array.from({ length: steps }, (_, i) => between(at(i))), (i) => `${Math.round(100 * at(i))}% of the walk`);
    move(0);
  }

  function move(t) {
    $("position").value = t;
    go(between(t), { text: `${Math.round(100 * t)}% of the walk` });
  }

  let playing = null;
  function play() {
    if (!state.end) return;
    if (playing) return (playing = null);
    const began = performance.now(), token = (playing = {});
    const tick = (now) => {
      if (playing !== token || !state.end) return;
      const phase = ((now - began) / 3000) % 2;
      move(phase > 1 ? 2 - phase : phase);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  function normal() {
    return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  }

  function draw() {
    if (!model.prior) return Array.from({ length: size }, normal);
    const n = Math.floor(Math.random() * model.prior.shape[0]);
    return Array.from(model.prior.data.slice(n * size, (n + 1) * size));
  }

  function sample() {
    endWalk();
    const points = Array.from({ length: steps }, draw);
    showStrip(points, (i) => `Draw ${i + 1} of ${steps} from the prior`);
    go(points[0], { text: `Draw 1 of ${steps} from the prior` });
  }

  function endWalk() {
    playing = null;
    Object.assign(state, { start: null, end: null });
    $("walk").hidden = true;
  }

  function setWalking(on) {
    state.walking = on;
    if (on) endWalk();
    $("walking").setAttribute("aria-pressed", on);
    $("hint").textContent = on
      ? "Press where the walk begins, then where it ends."
      : "Press or drag to decode a place. Shift and press: walk there from the current point.";
    drawMap();
  }

  // ---- drawing

  function easel() {
    $("drawing").hidden = !(model.encoder && model.image);
    if ($("drawing").hidden) return;
    const paper = $("paper"), cell = Math.max(4, Math.round(280 / width)), context = paper.getContext("2d", { willReadFrequently: true });
    const [ground, ink] = model.bright ? ["#fff", "#000"] : ["#000", "#fff"];
    [paper.width, paper.height] = [width * cell, height * cell];
    let last = null;
    const clear = () => {
      context.fillStyle = ground;
      context.fillRect(0, 0, paper.width, paper.height);
      paint($("seen"), cells());
      paint($("answer"), new Array(channels * height * width).fill(model.bright ? 1 : 0));
    };
    const at = (event) => {
      const box = paper.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * paper.width, ((event.clientY - box.top) / box.height) * paper.height];
    };
    const stroke = (event) => {
      const now = at(event);
      Object.assign(context, { strokeStyle: ink, lineCap: "round", lineJoin: "round", lineWidth: cell * Math.max(1.2, 0.085 * width) });
      context.beginPath();
      context.moveTo(...(last || now)), context.lineTo(now[0] + 0.01, now[1]);
      context.stroke();
      last = now;
      see();
    };
    const cells = () => {
      const { data } = context.getImageData(0, 0, paper.width, paper.height), x = new Array(channels * height * width).fill(0);
      for (let i = 0; i < height * cell; i++)
        for (let j = 0; j < width * cell; j++)
          for (let c = 0; c < channels; c++)
            x[(c * height + Math.floor(i / cell)) * width + Math.floor(j / cell)] += data[4 * (i * paper.width + j)] / (255 * cell * cell);
      return x;
    };
    const see = () => {
      const x = Net.prepare(cells(), model, uniforms), top = model.whole ? model.levels - 1 : 1;
      paint($("seen"), x.map((a) => a / top));
      go(Net.run(model.encoder, x), { text: "Mean of q(z | x) of the drawing" });
      paint($("answer"), decode(state.z));
    };
    paper.onpointerdown = (event) => {
      last = null;
      stroke(event);
      paper.onpointermove = stroke;
    };
    for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => (paper.onpointermove = null));
    $("clear").onclick = clear;
    clear();
  }

  // ---- keys

  const KEYS = { r: "sample", o: "origin", w: "walking", p: "play", c: "clear" };

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const button = KEYS[event.key.toLowerCase()];
    if (button && !$(button).hidden) $(button).click();
  }

  function begin() {
    planes.forEach((plane, k) => $("plane").append(new Option(plane.name, k)));
    $("plane").onchange = () => choose(planes[$("plane").value]);
    $("snap").checked = size > 2;
    $("sample").onclick = sample;
    $("origin").onclick = () => go(new Array(size).fill(0), { text: "The origin" });
    $("walking").onclick = () => setWalking(!state.walking);
    $("play").onclick = play;
    $("position").oninput = () => ((playing = null), move(Number($("position").value)));
    document.addEventListener("keydown", keys);
    dark.addEventListener("change", () => (legend(), drawMap()));
    window.addEventListener("resize", drawMap);
    choose(planes[0]);
    dims();
    directions();
    legend();
    pointer();
    easel();
    $("sample").hidden = !model.samples;
    if (model.samples) sample();
    setWalking(false);
    go(code(0), { text: about(0), datum: 0 });
  }

  begin();
  return { state, go };
})();
