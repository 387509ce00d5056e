// The playground: one request, one column a model. Texts are only ever set as text.
"use strict";

const EXAMPLES = [
  ["She opened the [MASK] and looked out.", ""],
  ["The heart pumps [MASK] through the body.", ""],
  ["A film that never finds its feet, but is never dull.", ""],
  ["The cat sat on the mat.", "A feline rested on the rug."],
  ["Unbelievably, internationalization wasn't straightforward!", ""],
];
const WAIT = 350; // ms after the last key
const SLOW = 1200; // ms from which it is said that the server takes its time
const $ = (id) => document.getElementById(id);
const NAMED = 40; // pieces that are written beside a map of attention
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const RIGHT_TO_LEFT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;
let served = [];
let last = null;
let asked = 0;
let under = new AbortController(); // the question that is under way
let timer = 0;

function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(message, bad = false) {
  $("status").textContent = message;
  $("status").classList.toggle("bad", bad);
}

async function call(method, path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const reply = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  const told = await reply.json().catch(() => ({}));
  if (reply.status === 401) $("locked").hidden = false;
  if (!reply.ok) {
    const again = reply.headers.get("retry-after");
    const message = (told.error && told.error.message) || `the server answered with status ${reply.status}`;
    throw new Error(again ? `${message}; again in ${again} s` : message);
  }
  return told;
}

function wanted() {
  return [...document.querySelectorAll("#chosen input:checked")].map((box) => box.value);
}

function body() {
  const found = { text: $("text").value, models: wanted(), layer: Number($("layer").value) };
  if ($("pair").value) found.pair = $("pair").value;
  if ($("precision").value) found.precision = $("precision").value;
  return found;
}

async function ask() {
  clearTimeout(timer);
  const mine = ++asked;
  under.abort(); // nobody wants its answer any more
  under = new AbortController();
  if (!$("text").value.trim()) {
    $("models").replaceChildren();
    say("Type a text, or choose an example.");
    return;
  }
  if (!wanted().length) {
    $("models").replaceChildren();
    say("Choose a model.", true);
    return;
  }
  say("Asking …");
  const slow = setTimeout(() => mine === asked && say("The server takes its time …"), SLOW);
  try {
    const began = performance.now();
    const told = await call("POST", "v1/compare", body(), under.signal);
    if (mine !== asked) return; // a later question is on its way
    last = told.models;
    show();
    say(`Answered in ${Math.round(performance.now() - began)} ms.`);
  } catch (error) {
    if (mine === asked) say(error.message === "Failed to fetch" ? "The server does not answer." : error.message, true);
  } finally {
    clearTimeout(slow);
  }
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(ask, WAIT);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function decimal(number) {
  return number.toFixed(2);
}

function bars(rows, show = percent) {
  return made("table", {}, ...rows.map(([name, share]) => made("tr", {},
    made("th", { scope: "row", textContent: name, dir: "auto" }),
    made("td", { className: "bar" }, made("meter", { min: 0, max: 1, value: share, ariaLabel: `${name}: ${show(share)}` })),
    made("td", { className: "number", textContent: show(share) }))));
}

// What a pointer, a finger or the arrow keys choose among rows x columns is told. at(event): [row, column], or null.
function explored(element, [rows, columns], at, tell) {
  let place = null;
  const go = (found) => {
    if (!found) return;
    place = found;
    tell(...place);
  };
  for (const kind of ["pointermove", "pointerdown"]) element.addEventListener(kind, (event) => go(at(event)));
  element.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    const [row, column] = place ? [place[0] + step[0], place[1] + step[1]] : [0, 0];
    go([Math.min(rows - 1, Math.max(0, row)), Math.min(columns - 1, Math.max(0, column))]);
  });
}

function pieces(found) {
  let colour = 0;
  const places = found.map((piece) => `id ${piece.id}, ${piece.start === null ? "added by the tokenizer" : `characters ${piece.start} to ${piece.stop}`}`);
  const spans = found.map((piece, i) => {
    if (piece.start !== null) colour = (colour + 1) % 5;
    return made("span", { className: piece.start === null ? "special" : `p${colour}`, textContent: piece.text, title: places[i] });
  });
  const first = $("text").value.match(/\p{L}/u); // not what comes first, which is [CLS]
  const direction = first && RIGHT_TO_LEFT.test(first[0]) ? "rtl" : "ltr";
  const line = made("p", { className: "pieces", dir: direction, tabIndex: 0, ariaLabel: "pieces" }, ...spans);
  const under = made("p", { className: "told", role: "status", textContent: "Point at a piece, tap it, or use the arrow keys." });
  explored(line, [1, found.length], (event) => {
    const span = event.target.closest("span");
    return span && [0, spans.indexOf(span)];
  }, (_, i) => {
    for (const span of line.querySelectorAll(".chosen")) span.classList.remove("chosen");
    spans[i].classList.add("chosen");
    spans[i].scrollIntoView({ block: "nearest" });
    under.textContent = `${found[i].text}: ${places[i]}`;
  });
  return [line, under];
}

function answers(heads) {
  const parts = [];
  if (heads.label) {
    parts.push(bars(Object.entries(heads.label.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 8)));
  }
  if (heads.score) parts.push(made("p", { textContent: `score ${heads.score.score.toFixed(3)}` }));
  if (heads.tag) {
    const found = heads.tag.entities;
    parts.push(made("p", { dir: "auto", textContent: found.length ? found.map((e) => `${e.text} (${e.label})`).join(", ") : "no entities" }));
  }
  if (heads.span) {
    const found = heads.span.answer;
    parts.push(made("p", { dir: "auto", textContent: found ? `“${found.text}” ${percent(found.probability)}` : "no answer in the second text" }));
  }
  return parts;
}

const SVG = "http://www.w3.org/2000/svg";

function drawn(tag, properties, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

function columns(values, label, show) {
  const width = 44;
  const picture = drawn("svg", { viewBox: `0 0 ${Math.max(6, values.length) * width} 110`, role: "img", "aria-label": label });
  values.forEach((value, i) => {
    const high = Math.max(1, 70 * Math.max(0, value));
    picture.append(
      drawn("rect", { class: "bar", x: i * width + 6, y: 85 - high, width: width - 12, height: high, rx: 3 }),
      drawn("text", { x: i * width + width / 2, y: 80 - high, "text-anchor": "middle" }, show(value)),
      drawn("text", { x: i * width + width / 2, y: 102, "text-anchor": "middle" }, String(i + 1)));
  });
  return picture;
}

function attention(heads, found) {
  const head = Math.min(Number($("head").value) || 0, heads.length - 1);
  const rows = heads[head];
  const n = rows.length;
  const canvas = made("canvas", { width: n, height: n });
  const brush = canvas.getContext("2d");
  const image = brush.createImageData(n, n);
  rows.forEach((row, i) => row.forEach((share, j) => image.data.set([0, 114, 178, Math.round(255 * Math.sqrt(share))], 4 * (i * n + j))));
  brush.putImageData(image, 0, 0);
  const [side, room] = [300, n <= NAMED ? 64 : 2];
  const cell = side / n;
  const picture = drawn("svg", { class: "map", viewBox: `0 0 ${side + room + 2} ${side + room + 2}`, role: "img", tabindex: 0,
    "aria-label": `attention of head ${head + 1}: from each piece (row) to each piece (column)` });
  picture.append(
    drawn("image", { x: room, y: room, width: side, height: side, href: canvas.toDataURL(), preserveAspectRatio: "none" }),
    drawn("rect", { class: "frame", x: room, y: room, width: side, height: side }));
  if (n <= NAMED) {
    found.slice(0, n).forEach((piece, i) => {
      const [middle, size] = [room + (i + 0.5) * cell, Math.min(11, 0.9 * cell)];
      const short = piece.text.length > 9 ? `${piece.text.slice(0, 8)}…` : piece.text;
      picture.append(
        drawn("text", { x: room - 4, y: middle, "font-size": size, "text-anchor": "end", "dominant-baseline": "central" }, short),
        drawn("text", { x: 0, y: 0, "font-size": size, "dominant-baseline": "central", transform: `translate(${middle} ${room - 4}) rotate(-90)` }, short));
    });
  }
  const mark = drawn("rect", { class: "mark", width: cell, height: cell, visibility: "hidden" });
  picture.append(mark);
  const part = n < found.length ? ` Of ${found.length} pieces the first ${n} are shown.` : "";
  const under = made("p", { className: "told", role: "status", textContent: `Rows look at columns; the darker, the more. Point at a cell, tap it, or use the arrow keys.${part}` });
  explored(picture, [n, n], (event) => {
    const box = picture.getBoundingClientRect();
    const scale = (side + room + 2) / box.width;
    const [j, i] = [event.clientX - box.left, event.clientY - box.top].map((x) => Math.floor((x * scale - room) / cell));
    return i >= 0 && j >= 0 && i < n && j < n ? [i, j] : null;
  }, (i, j) => {
    for (const [name, value] of [["x", room + j * cell], ["y", room + i * cell], ["visibility", "visible"]]) mark.setAttribute(name, value);
    under.textContent = `${found[i].text} → ${found[j].text}: ${percent(rows[i][j])}`;
  });
  return [picture, under];
}

function column(name, told) {
  const model = served.find((each) => each.name === name);
  if (told.error) return made("article", { ariaLabel: name }, made("h2", { textContent: name }), made("p", { className: "bad", textContent: told.error.message }));
  const layered = told.attention
    ? attention(told.attention, told.pieces)
    : [made("p", { className: "told", textContent: `This model has ${model.layers} layers, and so no layer ${Number($("layer").value) + 1}.` })];
  const parts = [
    made("h2", { textContent: name }),
    made("p", { className: "told", textContent: `${(model.parameters / 1e6).toFixed(1)} M parameters, ${model.layers} layers × ${model.width}, ${told.precision}` }),
    made("h3", { textContent: `${told.pieces.length} pieces` }),
    ...(told.cut ? [made("p", { className: "bad", textContent: `The model reads ${model.longest} pieces; the other ${told.cut} are cut off.` })] : []),
    ...pieces(told.pieces),
  ];
  told.fills.forEach((rows, i) => parts.push(
    made("h3", { textContent: told.fills.length > 1 ? `[MASK] ${i + 1}` : "[MASK]" }), bars(rows.map((row) => [row.piece, row.probability]))));
  const answered = answers(told.heads);
  if (answered.length) parts.push(made("h3", { textContent: "What its heads say" }), ...answered);
  if (told.likeness !== null) parts.push(made("h3", { textContent: "Likeness of the two texts" }), bars([["cosine", told.likeness]], decimal));
  parts.push(
    made("h3", { textContent: "How little each layer changes (cosine before and after)" }),
    columns(told.layers, "cosine of the states before and after each layer", decimal),
    made("h3", { textContent: told.attention ? `Attention, layer ${told.layer + 1}` : "Attention" }), ...layered,
    made("h3", { textContent: "Time" }),
    made("table", {}, ...Object.entries({ wait: told.waited, ...told.seconds }).map(([stage, seconds]) => made("tr", {},
      made("th", { scope: "row", textContent: stage }), made("td", { className: "number", textContent: `${(1000 * seconds).toFixed(1)} ms` })))));
  return made("article", { ariaLabel: name }, ...parts);
}

function show() {
  $("models").replaceChildren(...Object.entries(last).map(([name, told]) => column(name, told)));
}

function fill(select, count, first) {
  const before = select.value;
  select.replaceChildren(...first, ...Array.from({ length: count }, (_, i) => made("option", { value: i, textContent: i + 1 })));
  if ([...select.options].some((option) => option.value === before)) select.value = before;
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied.`);
  } catch {
    window.prompt(what, text); // no clipboard without https, but for this machine
  }
}

function link() {
  const told = new URLSearchParams({ text: $("text").value });
  if ($("pair").value) told.set("pair", $("pair").value);
  if (wanted().length < served.length) wanted().forEach((name) => told.append("model", name));
  for (const [id, usual] of [["precision", ""], ["layer", "-1"], ["head", "0"]]) {
    if ($(id).value !== usual) told.set(id, $(id).value);
  }
  return `${location.origin}${location.pathname}#${told}`;
}

// What a link asks for: its texts at once, the rest when it is known what is served.
function taken() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("text")) {
    [$("text").value, $("pair").value] = [given.get("text"), given.get("pair") || ""];
    $("example").value = "";
    $("more").open = Boolean($("pair").value);
  }
  return given;
}

function chosen(given) {
  const names = given.getAll("model");
  for (const box of document.querySelectorAll("#chosen input")) box.checked = !names.length || names.includes(box.value);
  knobs();
  for (const [id, usual] of [["precision", ""], ["layer", "-1"], ["head", "0"]]) {
    const value = given.get(id) ?? usual;
    $(id).value = [...$(id).options].some((option) => option.value === value) ? value : usual;
  }
}

function shared() {
  const found = body();
  if (wanted().length === served.length) delete found.models;
  return found;
}

function python() {
  const locked = Boolean($("key").value);
  const key = locked ? ', "Authorization": "Bearer " + os.environ["HALBERT_API_KEY"]' : "";
  return `import json${locked ? ", os" : ""}, urllib.request\n\nbody = json.loads(${JSON.stringify(JSON.stringify(shared()))})\nrequest = urllib.request.Request(\n    ${JSON.stringify(new URL("v1/compare", location.href).href)}, json.dumps(body).encode(), {"Content-Type": "application/json"${key}}\n)\nprint(json.load(urllib.request.urlopen(request)))\n`;
}

function curl() {
  const key = $("key").value ? ' -H "Authorization: Bearer $HALBERT_API_KEY"' : "";
  const quoted = JSON.stringify(shared()).replaceAll("'", "'\\''");
  return `curl -s ${new URL("v1/compare", location.href).href}${key} -H 'Content-Type: application/json' -d '${quoted}'`;
}

async function begin() {
  EXAMPLES.forEach(([text], i) => $("example").append(made("option", { value: i, textContent: text })));
  [$("text").value, $("pair").value] = EXAMPLES[0];
  $("example").value = "0";
  taken();
  window.addEventListener("hashchange", () => {
    chosen(taken());
    ask();
  });
  $("example").addEventListener("change", () => {
    const example = EXAMPLES[$("example").value];
    if (!example) return;
    [$("text").value, $("pair").value] = example;
    $("more").open = Boolean(example[1]);
    ask();
  });
  for (const id of ["text", "pair"]) $(id).addEventListener("input", () => { $("example").value = ""; soon(); });
  for (const id of ["precision", "layer"]) $(id).addEventListener("change", ask);
  $("head").addEventListener("change", () => last && show());
  $("key").addEventListener("change", models);
  $("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  $("share").addEventListener("click", () => copy(link(), "Link"));
  $("python").addEventListener("click", () => copy(python(), "Python"));
  $("curl").addEventListener("click", () => copy(curl(), "Command"));
  await models();
}

async function models() {
  try {
    served = (await call("GET", "v1/models")).data;
  } catch (error) {
    say(error.message, true);
    return;
  }
  $("locked").hidden = !$("key").value;
  $("chosen").replaceChildren(made("legend", { textContent: "Models" }), ...served.map((model) => {
    const box = made("input", { type: "checkbox", value: model.name, checked: true });
    box.addEventListener("change", () => {
      knobs();
      ask();
    });
    return made("label", {}, box, ` ${model.name}`);
  }));
  chosen(taken());
  await ask();
}

// Precisions that all chosen models have, and as many layers and heads as any of them.
function knobs() {
  const some = served.filter((model) => wanted().includes(model.name));
  if (!some.length) return;
  const able = some[0].precisions.filter((each) => some.every((model) => model.precisions.includes(each)));
  const before = $("precision").value;
  $("precision").replaceChildren(made("option", { value: "", textContent: "as served" }),
    ...able.map((each) => made("option", { value: each, textContent: each })));
  $("precision").value = able.includes(before) ? before : "";
  fill($("layer"), Math.max(...some.map((model) => model.layers)), [made("option", { value: -1, textContent: "last" })]);
  fill($("head"), Math.max(...some.map((model) => model.attention_heads)), []);
}

begin();
