const $ = id => document.getElementById(id);
const [HEIGHT, WIDTH, CHANNELS] = SCENE.shape;
const BLANK = () => new Uint8Array(HEIGHT * WIDTH * CHANNELS);
let base = BLANK();        // the image before it is shifted
let shift = [0, 0];
let trace = [];            // one entry for each shift: the probability of the first answer, of each network
let first = null;          // the class of the first answer, of each network
let looked = null;         // what the networks made of the image last
let chosen = null;         // {network, layer, place}: the number that is explained
let example = null;

// ---- the image

function pixels() {
  const [dy, dx] = shift;
  if (!dy && !dx) return base;
  const moved = BLANK();
  for (let y = 0; y < HEIGHT; y++) for (let x = 0; x < WIDTH; x++) {
    const fromY = y - dy, fromX = x - dx;
    if (fromY < 0 || fromY >= HEIGHT || fromX < 0 || fromX >= WIDTH) continue;
    for (let c = 0; c < CHANNELS; c++) moved[(y * WIDTH + x) * CHANNELS + c] = base[(fromY * WIDTH + fromX) * CHANNELS + c];
  }
  return moved;
}

function paint() {
  const context = $("image").getContext("2d"), picture = context.createImageData(WIDTH, HEIGHT), from = pixels();
  for (let i = 0; i < HEIGHT * WIDTH; i++) {
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = from[i * CHANNELS + (CHANNELS === 3 ? c : 0)];
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

// A new image: what is plotted about the one before it goes.
function begin(image, said) {
  base = image;
  shift = [0, 0];
  trace = [];
  first = null;
  $("said").textContent = said;
  if (example === null && $("label")) $("label").textContent = "";
  changed();
}

function changed() {
  paint();
  const [dy, dx] = shift;
  const words = [dx && `${Math.abs(dx)} to the ${dx > 0 ? "right" : "left"}`, dy && `${Math.abs(dy)} ${dy > 0 ? "down" : "up"}`];
  $("shift").textContent = words.filter(Boolean).join(", ") || "not shifted";
  look();
}

// The strokes of a pen with a soft edge, on the image's own pixels.
const RADIUS = Math.max(0.9, Math.min(HEIGHT, WIDTH) / 24);
function stroke([y0, x0], [y1, x1]) {
  const rubbing = $("rubber").getAttribute("aria-pressed") === "true";
  const ink = CHANNELS === 3 ? [1, 3, 5].map(i => parseInt($("ink").value.slice(i, i + 2), 16)) : Array(CHANNELS).fill(255);
  const length = (y1 - y0) ** 2 + (x1 - x0) ** 2;
  for (let y = 0; y < HEIGHT; y++) for (let x = 0; x < WIDTH; x++) {
    const along = length ? Math.max(0, Math.min(1, ((y - y0) * (y1 - y0) + (x - x0) * (x1 - x0)) / length)) : 0;
    const distance = Math.hypot(y - y0 - along * (y1 - y0), x - x0 - along * (x1 - x0));
    const cover = Math.max(0, Math.min(1, RADIUS + 0.5 - distance));
    if (!cover) continue;
    for (let c = 0; c < CHANNELS; c++) {
      const i = (y * WIDTH + x) * CHANNELS + c;
      base[i] = rubbing ? base[i] * (1 - cover) : CHANNELS === 3 ? base[i] + cover * (ink[c] - base[i]) : Math.max(base[i], cover * ink[c]);
    }
  }
}

let last = null;
function place(event) {
  const box = $("image").getBoundingClientRect();
  return [(event.clientY - box.top) / box.height * HEIGHT - 0.5, (event.clientX - box.left) / box.width * WIDTH - 0.5];
}
$("image").addEventListener("pointerdown", event => {
  event.preventDefault();
  $("image").focus();
  $("image").setPointerCapture(event.pointerId);
  base = pixels().slice();  // what is drawn on is the image as it is seen
  example = null;
  last = place(event);
  stroke(last, last);
  begin(base, "Draw here, or drop a picture. The arrow keys shift it.");
});
$("image").addEventListener("pointermove", event => {
  if (!last) return;
  const now = place(event);
  stroke(last, now);
  last = now;
  changed();
});
for (const end of ["pointerup", "pointercancel"]) $("image").addEventListener(end, () => {
  if (!last) return;
  last = null;
  first = null;
  trace = [];
  look();
});

function press(on, off) {
  $(on).setAttribute("aria-pressed", "true");
  $(off).setAttribute("aria-pressed", "false");
}
$("pen").onclick = () => press("pen", "rubber");
$("rubber").onclick = () => press("rubber", "pen");
$("clear").onclick = () => { example = null; begin(BLANK(), "Draw here, or drop a picture. The arrow keys shift it."); };

const MOVES = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
function move([dy, dx]) {
  shift = [Math.max(-HEIGHT, Math.min(HEIGHT, shift[0] + dy)), Math.max(-WIDTH, Math.min(WIDTH, shift[1] + dx))];
  changed();
}
$("image").addEventListener("keydown", event => {
  if (!MOVES[event.key]) return;
  event.preventDefault();
  move(MOVES[event.key]);
});
for (const button of document.querySelectorAll("[data-shift]")) button.onclick = () => move(button.dataset.shift.split(",").map(Number));

async function open(file) {
  const answer = await ask("picture", file);
  if (answer) { example = null; begin(new Uint8Array(await answer.arrayBuffer()), `${file.name}, as the network's images are stored`); }
}
$("open").onclick = () => $("file").click();
$("file").onchange = () => { if ($("file").files[0]) open($("file").files[0]); $("file").value = ""; };
addEventListener("dragover", event => { event.preventDefault(); $("paper").classList.add("over"); });
addEventListener("dragleave", () => $("paper").classList.remove("over"));
addEventListener("drop", event => {
  event.preventDefault();
  $("paper").classList.remove("over");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});

async function choose(number) {
  const wanted = Math.max(0, Math.min(SCENE.examples - 1, Math.round(Number(number)) || 0));
  $("example").value = wanted;
  const answer = await ask(`examples/${wanted}`);
  if (!answer) return;
  example = wanted;
  const label = JSON.parse(answer.headers.get("x-label"));
  $("label").textContent = `labelled ${label}`;
  begin(new Uint8Array(await answer.arrayBuffer()), "Draw here, or drop a picture. The arrow keys shift it.");
}
if (SCENE.examples) {
  $("example").onchange = () => choose($("example").value);
  $("before").onclick = () => choose(Number($("example").value) - 1);
  $("next").onclick = () => choose(Number($("example").value) + 1);
}

// ---- what is asked of the server

async function ask(path, body) {
  let said;
  try {
    const answer = await fetch(path, body === undefined ? {} : {method: "POST", body});
    if (answer.ok) { $("error").hidden = true; return answer; }
    said = answer.status === 400 ? (await answer.json()).error : `${path}: ${answer.status}`;
  } catch {
    said = "the program that serves this page has ended; start it again";
  }
  $("error").textContent = said;
  $("error").hidden = false;
  return null;
}

let busy = false, waiting = false;
async function look() {
  if (busy) { waiting = true; return; }
  busy = true;
  const begun = performance.now(), at = shift.slice();
  const answer = await ask("look", pixels());
  if (answer) {
    looked = await answer.json();
    show(at);
    $("time").textContent = `computed and drawn in ${Math.round(performance.now() - begun)} ms`;
    $("time").dataset.ms = performance.now() - begun;
  }
  busy = false;
  if (waiting) { waiting = false; look(); }
  else settled();
}

// When no further image waits: what takes longer.
function settled() {
  if (chosen) explain();
  if ($("evidence").getAttribute("aria-pressed") === "true" && !last) evidence();
}

// ---- the answers and the trace

const percent = p => p >= 0.9995 && p < 1 ? ">99.9 %" : `${(100 * p).toFixed(1)} %`;
function show(at) {
  looked.forEach((each, network) => {
    const order = each.probabilities.map((p, k) => [p, k]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const best = order[0][1];
    const rows = SCENE.classes.length <= 10 ? each.probabilities.map((p, k) => [p, k]) : order.slice(0, 5);
    document.querySelector(`.answers[data-network="${network}"]`).replaceChildren(...rows.flatMap(([p, k]) => {
      const name = element("span", SCENE.classes[k], k === best && "best"), bar = element("span", "", "track"), inner = element("span", "");
      inner.style.width = `${100 * p}%`;
      bar.append(inner);
      return [name, bar, element("span", percent(p), "num")];
    }));
  });
  const answers = looked.map(each => each.probabilities.indexOf(Math.max(...each.probabilities)));
  if (first === null) { first = answers; trace = []; }
  const now = looked.map((each, network) => each.probabilities[first[network]]);
  const before = trace[trace.length - 1];
  if (!before || String(before.at) !== String(at)) trace.push({at, now}); else before.now = now;
  plot();
  draw();
}

function element(tag, text, name) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

const LINES = ["var(--held)", "var(--wrong)"];
function plot() {
  const left = 34, top = 8, wide = 276, high = 92, steps = Math.max(trace.length - 1, 1);
  const x = i => left + wide * i / steps, y = p => top + high * (1 - p);
  const parts = [0, 0.5, 1].map(p => `<line x1="${left}" x2="${left + wide}" y1="${y(p)}" y2="${y(p)}" stroke="var(--line)"/>` +
    `<text x="${left - 5}" y="${y(p) + 3}" text-anchor="end" fill="var(--muted)">${100 * p} %</text>`);
  SCENE.networks.forEach((_, network) => {
    const points = trace.map((each, i) => `${x(i).toFixed(1)},${y(each.now[network]).toFixed(1)}`);
    parts.push(`<polyline points="${points.join(" ")}" fill="none" stroke="${LINES[network]}" stroke-width="2"/>`);
    points.forEach(point => parts.push(`<circle cx="${point.split(",")[0]}" cy="${point.split(",")[1]}" r="2.6" fill="${LINES[network]}"/>`));
  });
  $("trace").innerHTML = parts.join("");
  if (trace.length > 1) {
    const named = SCENE.networks.map((each, network) => `${SCENE.networks.length > 1 ? `${each.name} (${network ? "orange" : "blue"}): ` : ""}${SCENE.classes[first[network]]}`);
    $("trace-note").textContent = `Probability of ${named.join(", ")}, after each of ${trace.length - 1} shifts.`;
  } else $("trace-note").textContent = "Shift the image: the probability of the answer that it began with is plotted here.";
}

// ---- maps

const RAMP = (() => {
  const stops = getComputedStyle(document.documentElement).getPropertyValue("--ramp").split(",").map(each => each.trim());
  const rgb = stops.map(each => [1, 3, 5].map(i => parseInt(each.slice(i, i + 2), 16)));
  return Array.from({length: 256}, (_, byte) => {
    const value = byte < 128 ? byte : byte - 256, at = (Math.max(-127, value) + 127) / 254 * (rgb.length - 1);
    const low = Math.min(Math.floor(at), rgb.length - 2);
    return [0, 1, 2].map(c => Math.round(rgb[low][c] + (at - low) * (rgb[low + 1][c] - rgb[low][c])));
  });
})();

function decode(map) {
  const text = atob(map.data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

function colour(canvas, bytes, from, wide, high) {
  const context = canvas.getContext("2d"), picture = context.createImageData(wide, high);
  for (let i = 0; i < wide * high; i++) {
    const [r, g, b] = RAMP[bytes[from + i]];
    picture.data.set([r, g, b, 255], 4 * i);
  }
  context.putImageData(picture, 0, 0);
}

// Vectors, and maps of one pixel each, are shown as one strip of numbers.
const isStrip = shape => shape.length === 1 || shape[0] === 1 && shape[1] === 1;
const input = network => ({name: "input", kind: "the image as the first layer reads it", activation: "", shape: SCENE.networks[network].input, parameters: 0, sizes: ""});
const layersOf = network => [input(network), ...SCENE.networks[network].layers];
const boxes = SCENE.networks.map(() => new Map());  // of each network: layer name to its element of maps

function build() {
  SCENE.networks.forEach((_, network) => {
    const list = document.querySelector(`.layers[data-network="${network}"]`);
    for (const layer of layersOf(network)) {
      const strip = isStrip(layer.shape), [high, wide, count] = strip ? [1, layer.shape.at(-1), 1] : layer.shape;
      const box = element("div", "", "layer"), head = element("header", "");
      head.append(element("strong", layer.name), element("span", [layer.kind, layer.activation].filter(Boolean).join(", "), "note"),
        element("span", layer.shape.join(" × "), "note"));
      if (layer.sizes) head.append(element("span", layer.sizes, "note sum"));
      const shown = Math.min(count, 64), maps = element("div", "", strip ? "maps vector" : "maps");
      maps.style.setProperty("--tile", high >= 20 || shown < 4 ? "5rem" : shown > 32 ? "2.2rem" : "3.4rem");
      maps.dataset.layer = layer.name;
      maps.dataset.network = network;
      for (let channel = 0; channel < shown; channel++) {
        const tile = element("div", "", "tile"), canvas = element("canvas", "");
        canvas.width = wide;
        canvas.height = high;
        tile.append(canvas);
        if (layer.name !== "input") tile.onclick = event => {
          const area = canvas.getBoundingClientRect();
          const column = Math.min(wide - 1, Math.floor((event.clientX - area.left) / area.width * wide));
          const row = Math.min(high - 1, Math.floor((event.clientY - area.top) / area.height * high));
          select(network, layer, layer.shape.length === 1 ? [column] : strip ? [0, 0, column] : [row, column, channel]);
        };
        maps.append(tile);
      }
      if (layer.name !== "input") {
        maps.tabIndex = 0;
        maps.setAttribute("role", "group");
        maps.setAttribute("aria-label", `maps of ${layer.name}; the arrow keys choose a number`);
        maps.addEventListener("keydown", event => walk(event, network, layer));
      }
      box.append(head, maps);
      if (count > shown) box.append(element("p", `${shown} of ${count} maps`, "note"));
      list.append(box);
      boxes[network].set(layer.name, maps);
    }
  });
}

function draw() {
  looked.forEach((each, network) => {
    for (const [name, map] of Object.entries(each.layers)) {
      const bytes = decode(map), tiles = boxes[network].get(name).children;
      const [high, wide] = isStrip(map.shape) ? [1, map.shape.at(-1)] : map.shape;
      for (let channel = 0; channel < tiles.length; channel++)
        colour(tiles[channel].firstChild, bytes, channel * high * wide, wide, high);
    }
  });
}

// ---- one number

function select(network, layer, place) {
  chosen = {network, layer, place};
  explain();
}

function walk(event, network, layer) {
  const strip = isStrip(layer.shape), own = chosen && chosen.network === network && chosen.layer.name === layer.name;
  const steps = {ArrowUp: [-1, 0, 0], ArrowDown: [1, 0, 0], ArrowLeft: [0, -1, 0], ArrowRight: [0, 1, 0], ",": [0, 0, -1], ".": [0, 0, 1]};
  if (event.key === "Escape") { close(); return; }
  if (!steps[event.key] && event.key !== "Enter") return;
  event.preventDefault();
  const middle = layer.shape.length === 1 ? [0] : [Math.floor(layer.shape[0] / 2), Math.floor(layer.shape[1] / 2), 0];
  let place = own ? chosen.place.slice() : middle;
  if (own && steps[event.key]) {
    const [down, right, further] = steps[event.key], along = down + right + further;
    const step = layer.shape.length === 1 ? [along] : strip ? [0, 0, along] : [down, right, further];
    const most = layer.shape.map((side, axis) => axis === 2 && !strip ? Math.min(side, 64) : side);
    place = place.map((at, axis) => Math.max(0, Math.min(most[axis] - 1, at + step[axis])));
  }
  select(network, layer, place);
}

function close() {
  chosen = null;
  $("unit").hidden = true;
  for (const mark of document.querySelectorAll(".mark")) mark.remove();
}
$("close").onclick = close;

function mark(tile, [row, column, high, wide], [rows, columns]) {
  const made = element("span", "", "mark");
  const top = Math.max(0, row), left = Math.max(0, column), bottom = Math.min(rows, row + high), right = Math.min(columns, column + wide);
  if (bottom <= top || right <= left) return;
  made.style.cssText = `top:${100 * top / rows}%;left:${100 * left / columns}%;height:${100 * (bottom - top) / rows}%;width:${100 * (right - left) / columns}%`;
  tile.append(made);
}

let asked = 0;
async function explain() {
  const {network, layer, place} = chosen, mine = ++asked;
  const answer = await ask(`unit?network=${network}&layer=${encodeURIComponent(layer.name)}&place=${place}`, pixels());
  if (!answer || mine !== asked || !chosen) return;
  const unit = await answer.json();
  for (const old of document.querySelectorAll(".mark")) old.remove();
  const tiles = boxes[network].get(layer.name).children;
  if (isStrip(layer.shape)) mark(tiles[0], [0, place.at(-1), 1, 1], [1, layer.shape.at(-1)]);
  else if (tiles[place[2]]) mark(tiles[place[2]], [place[0], place[1], 1, 1], layer.shape);
  const all = layersOf(network), before = all[all.findIndex(each => each.name === layer.name) - 1];
  if (unit.window && !isStrip(before.shape)) for (const each of unit.inputs) {
    const tile = boxes[network].get(before.name).children[each.channel];
    if (tile) mark(tile, unit.window, before.shape);
  }
  const named = SCENE.networks.length > 1 ? `${SCENE.networks[network].name}: ` : "";
  const where = isStrip(layer.shape) ? `number ${place.at(-1)}` : `map ${place[2]}, row ${place[0]}, column ${place[1]}`;
  $("unit-title").textContent = `${named}${layer.name}, ${where}: ${Number(unit.value.toPrecision(4))}`;
  $("unit-lines").replaceChildren(...unit.lines.map(line => element("div", line)));
  $("unit-inputs").replaceChildren(...inputsOf(unit, before));
  $("unit").hidden = false;
}

function inputsOf(unit, before) {
  const large = unit.inputs.length && unit.inputs[0].values.length * unit.inputs[0].values[0].length > 130 || !unit.window && unit.inputs.length === 1 && unit.inputs[0].values.length === 1;
  if (large && unit.inputs[0].weights) return [strongest(unit, before)];
  const shown = unit.inputs.slice(0, 8);
  const limits = ["values", "weights"].map(what => Math.max(1e-9, ...unit.inputs.flatMap(each => (each[what] || []).flat().map(Math.abs))));
  const made = shown.map(each => {
    const box = element("div", ""), pair = element("div", "", "pair");
    pair.append(grid(each.values, limits[0]));
    if (each.weights) pair.append(element("span", unit.window ? "×" : "and"), grid(each.weights, limits[1]));
    box.append(pair, element("p", unit.window ? `map ${each.channel} of ${before.name}` : "what is drawn, and the bitmap", "note"));
    return box;
  });
  if (unit.inputs.length > shown.length) made.push(element("p", `and ${unit.inputs.length - shown.length} more maps`, "note"));
  return made;
}

function grid(rows, limit) {
  const made = element("div", "", "window");
  made.style.gridTemplateColumns = `repeat(${rows[0].length}, auto)`;
  for (const value of rows.flat()) {
    const cell = element("span", value === null ? "·" : value.toFixed(2));
    if (value !== null) {
      const [r, g, b] = RAMP[(Math.round(value / limit * 127) + 256) % 256];
      cell.style.background = `rgb(${r} ${g} ${b})`;
      cell.style.color = r * 0.3 + g * 0.6 + b * 0.1 > 130 ? "#1c2127" : "#ffffff";
    }
    made.append(cell);
  }
  return made;
}

function strongest(unit, before) {
  const products = unit.inputs.flatMap(each => {
    const weights = each.weights.flat();
    return each.values.flat().map((value, i) => ({channel: each.channel, i, value, weight: weights[i], product: value * weights[i]}));
  });
  products.sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
  const table = element("table", ""), head = element("tr", "");
  for (const name of ["number", "reads", "weight", "product"]) head.append(element("th", name));
  table.append(head);
  for (const each of products.slice(0, 8)) {
    const row = element("tr", "");
    for (const text of [each.i, each.value.toFixed(3), each.weight.toFixed(3), each.product.toFixed(3)]) row.append(element("td", text));
    table.append(row);
  }
  const box = element("div", "");
  box.append(element("p", `The eight largest of ${products.length} products; the numbers of ${before.name} are counted row by row.`, "note"), table);
  return box;
}

// ---- evidence

async function evidence() {
  const body = pixels();
  for (let network = 0; network < SCENE.networks.length; network++) {
    const each = looked[network], label = each.probabilities.indexOf(Math.max(...each.probabilities));
    const answer = await ask(`evidence?network=${network}&label=${label}`, body);
    if (!answer) return;
    const found = await answer.json(), list = document.querySelector(`.evidence[data-network="${network}"]`);
    list.replaceChildren(...Object.entries(found).map(([name, map]) => {
      const figure = element("figure", ""), canvas = element("canvas", "");
      [canvas.height, canvas.width] = map.shape;
      colour(canvas, decode(map), 0, map.shape[1], map.shape[0]);
      figure.append(canvas, element("figcaption", name.replace("_input", " times input").replace("_", " ")));
      return figure;
    }));
  }
}
$("evidence").onclick = () => {
  const on = $("evidence").getAttribute("aria-pressed") !== "true";
  $("evidence").setAttribute("aria-pressed", on);
  for (const list of document.querySelectorAll(".evidence")) list.hidden = !on;
  if (on && looked) evidence();
};

// ---- tabs

function tab(name) {
  for (const each of ["network", "windows"]) {
    const on = each === name;
    $(each).hidden = !on;
    $(`tab-${each}`).setAttribute("aria-selected", on);
    $(`tab-${each}`).tabIndex = on ? 0 : -1;
  }
  const frame = $("windows").firstElementChild;
  if (name === "windows" && !frame.src) frame.src = frame.dataset.src;
}
for (const each of ["network", "windows"]) {
  $(`tab-${each}`).onclick = () => tab(each);
  $(`tab-${each}`).addEventListener("keydown", event => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = each === "network" ? "windows" : "network";
    tab(other);
    $(`tab-${other}`).focus();
  });
}

build();
if (SCENE.examples) choose(0);
else changed();
