// A drawing, encoded and decoded.

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
