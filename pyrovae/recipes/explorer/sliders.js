// Sliders of the latent dims, and of the directions of classes.

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
