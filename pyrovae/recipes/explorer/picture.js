// What the page knows, pictures of x, and the current point z, from which all that is shown follows.

const $ = (id) => document.getElementById(id);
const size = model.size, count = model.codes.shape[0], few = 12, steps = 9;
const [channels, height, width] = model.image ? model.event_shape : [0, 0, 0];
const code = (n) => Array.from(model.codes.data.slice(n * size, (n + 1) * size));
const limit = model.limit;
const state = { z: code(0), amounts: [], plane: null, start: null, end: null, alone: null, datum: 0, walking: false };
const uniforms = Array.from({ length: channels * height * width }, Math.random);


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
