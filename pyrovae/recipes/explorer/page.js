// Keys, and how the page begins: the last of the files.

const KEYS = { r: "sample", o: "origin", w: "walking", p: "play", c: "clear" };

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const button = KEYS[event.key.toLowerCase()];
  if (button && !$(button).hidden) $(button).click();
}

function begin() {
  document.body.classList.toggle("ink", channels === 1 && !model.bright);
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
