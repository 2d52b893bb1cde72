// Planes of latent space that the map shows, and the colours of classes.

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
