// Presses and keys on the map, and the classes beside it.

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
