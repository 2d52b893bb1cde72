// Walks between two points, and draws from the prior.

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
