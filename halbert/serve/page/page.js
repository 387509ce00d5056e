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

function bars(rows) {
  return made("table", {}, ...rows.map(([name, share]) => made("tr", {},
    made("th", { scope: "row", textContent: name, dir: "auto" }),
    made("td", { className: "bar" }, made("meter", { min: 0, max: 1, value: share, ariaLabel: `${name}: ${percent(share)}` })),
    made("td", { className: "number", textContent: percent(share) }))));
}

function pieces(found) {
  let colour = 0;
  return made("p", { className: "pieces", dir: "auto", tabIndex: 0, ariaLabel: "pieces" }, ...found.map((piece) => {
    const special = piece.start === null;
    if (!special) colour = (colour + 1) % 5;
    const place = special ? "added by the tokenizer" : `characters ${piece.start} to ${piece.stop}`;
    return made("span", { className: special ? "special" : `p${colour}`, textContent: piece.text, title: `id ${piece.id}, ${place}` });
  }));
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
  const canvas = made("canvas", { width: n, height: n, role: "img", ariaLabel: `attention of head ${head + 1}: from each piece (row) to each piece (column)` });
  const brush = canvas.getContext("2d");
  const image = brush.createImageData(n, n);
  rows.forEach((row, i) => row.forEach((share, j) => image.data.set([0, 114, 178, Math.round(255 * Math.sqrt(share))], 4 * (i * n + j))));
  brush.putImageData(image, 0, 0);
  const under = made("p", { className: "told", textContent: "Point at a cell." });
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const [j, i] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((x) => Math.min(n - 1, Math.max(0, Math.floor(x * n))));
    under.textContent = `${found[i].text} → ${found[j].text}: ${percent(rows[i][j])}`;
  });
  return [canvas, under];
}

function column(name, told) {
  const model = served.find((each) => each.name === name);
  const parts = [
    made("h2", { textContent: name }),
    made("p", { className: "told", textContent: `${(model.parameters / 1e6).toFixed(1)} M parameters, ${model.layers} layers × ${model.width}, ${told.precision}` }),
    made("h3", { textContent: `${told.pieces.length} pieces` }), pieces(told.pieces),
  ];
  told.fills.forEach((rows, i) => parts.push(
    made("h3", { textContent: told.fills.length > 1 ? `[MASK] ${i + 1}` : "[MASK]" }), bars(rows.map((row) => [row.piece, row.probability]))));
  const answered = answers(told.heads);
  if (answered.length) parts.push(made("h3", { textContent: "What its heads say" }), ...answered);
  if (told.likeness !== null) parts.push(made("h3", { textContent: "Likeness of the two texts" }), bars([["cosine", told.likeness]]));
  parts.push(
    made("h3", { textContent: "How little each layer changes (cosine before and after)" }),
    columns(told.layers, "cosine of the states before and after each layer", (x) => x.toFixed(2)),
    made("h3", { textContent: `Attention, layer ${told.layer + 1}` }), ...attention(told.attention, told.pieces),
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
  return `${location.origin}${location.pathname}#${told}`;
}

function python() {
  const { models, ...rest } = body();
  return `import json, urllib.request\n\nbody = json.loads(${JSON.stringify(JSON.stringify(rest))})\nrequest = urllib.request.Request(\n    ${JSON.stringify(new URL("v1/compare", location.href).href)}, json.dumps(body).encode(), {"Content-Type": "application/json"}\n)\nprint(json.load(urllib.request.urlopen(request)))\n`;
}

function curl() {
  const { models, ...rest } = body();
  const quoted = JSON.stringify(rest).replaceAll("'", "'\\''");
  return `curl -s ${new URL("v1/compare", location.href).href} -H 'Content-Type: application/json' -d '${quoted}'`;
}

async function begin() {
  EXAMPLES.forEach(([text], i) => $("example").append(made("option", { value: i, textContent: text })));
  const given = new URLSearchParams(location.hash.slice(1));
  [$("text").value, $("pair").value] = given.has("text") ? [given.get("text"), given.get("pair") || ""] : EXAMPLES[0];
  $("example").value = given.has("text") ? "" : "0";
  $("more").open = Boolean($("pair").value);
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
    box.addEventListener("change", ask);
    return made("label", {}, box, ` ${model.name}`);
  }));
  const able = served[0].precisions.filter((each) => served.every((model) => model.precisions.includes(each)));
  $("precision").replaceChildren(made("option", { value: "", textContent: "as served" }),
    ...able.map((each) => made("option", { value: each, textContent: each })));
  fill($("layer"), Math.min(...served.map((model) => model.layers)), [made("option", { value: -1, textContent: "last" })]);
  fill($("head"), Math.max(...served.map((model) => model.attention_heads)), []);
  await ask();
}

begin();
