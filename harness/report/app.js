// Sorts the tables and shows latents. Text from corpora and models enters the page as text nodes only.

const PAGE = 50;
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function short(value) {
  if (isMissing(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en").replace("-", "−");
  const size = Math.abs(value);
  const written = size >= 0.001 && size < 10000 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
  return written.replace("-", "−");
}

const isMissing = (value) => value === null || value === undefined;
const percent = (share) => `${Number((100 * share).toPrecision(2))}%`;
// What a blank chip would hide: spaces at the ends, a mark without its letter, nothing at all.
const spaced = (token) => token.replace(/^ | $/g, "␣").replace(/^\p{M}/u, "◌$&");
const EMPTY = "∅"; // a token that has no text: part of a character, say
const tokenChip = (token) => make("span", { class: "token", title: token ? null : "a token without text" }, spaced(token) || EMPTY);

/* Tables that came with the page */

function compare(a, b, direction) {
  if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b); // last, whichever way it goes
  return direction * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
}

function orderOf(cell) {
  const order = cell.dataset.order;
  return order === undefined ? null : cell.classList.contains("number") ? Number(order) : order;
}

function mark(heads, head) {
  const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of heads) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  return direction;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, i) =>
    head.querySelector("button").addEventListener("click", () => {
      const direction = mark(heads, head);
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(orderOf(a.cells[i]), orderOf(b.cells[i]), direction));
      table.tBodies[0].append(...rows);
    }));
}

/* Files beside the page: a fetch from disk is forbidden, a script is not */

const loading = new Map();

function load(name) {
  if (!loading.has(name)) {
    loading.set(name, new Promise((resolve, reject) => {
      const script = make("script", { src: `latents/${name}.js` });
      script.addEventListener("load", () => resolve(window.latents[name]));
      script.addEventListener("error", () => reject(new Error(`latents/${name}.js is missing: write the report anew.`)));
      document.head.append(script);
    }));
  }
  return loading.get(name);
}

/* The list of latents */

const decompositions = JSON.parse(document.getElementById("decompositions").textContent);
const find = (id) => document.getElementById(id);
const list = { n: 0, cards: [], page: 0, key: null, direction: 1 };
const unitName = (card) => `${card.index}${card.sign < 0 ? " −" : " +"}`;

function columns() {
  const signed = decompositions[list.n].signed;
  return [
    { heading: "latent", value: (c) => c.index, show: (c) => make("button", { type: "button", class: "open", "data-card": c.i }, signed ? unitName(c) : String(c.index)) },
    { heading: "tokens it is active on", value: null, show: (c) => make("span", { class: "tokens" }, ...c.tokens.map(tokenChip)) },
    { heading: "density", meaning: "share of rows where its code is not 0", value: (c) => c.density, show: (c) => percent(c.density) },
    { heading: "stratum", meaning: "density_1 is the quarter of the lowest densities, density_4 that of the highest", value: (c) => c.stratum, show: (c) => c.stratum, isText: true },
    { heading: "active rows", meaning: "rows above its threshold: at most 1 % of all", value: (c) => c.n_active, show: (c) => short(c.n_active) },
    { heading: "documents", value: (c) => c.n_documents, show: (c) => short(c.n_documents) },
    { heading: "largest", meaning: "largest activation", value: (c) => c.max, show: (c) => short(c.max) },
    ...decompositions[list.n].scorers.map((scorer, i) => ({
      heading: scorerName(scorer), meaning: scorer.weak, value: (c) => c.scores[i], show: (c) => short(c.scores[i]),
    })),
  ].map((column) => ({ ...column, isNumber: column.value !== null && !column.isText }));
}

function drawHeads() {
  const heads = columns().map((column) => make("th", { scope: "col", title: column.meaning ?? null, class: column.isNumber ? "number" : null }));
  columns().forEach((column, i) => {
    if (!column.value) return heads[i].append(make("span", {}, column.heading));
    heads[i].setAttribute("aria-sort", "none");
    heads[i].append(make("button", { type: "button", onclick: () => {
      list.direction = mark(heads.filter((head) => head.hasAttribute("aria-sort")), heads[i]);
      list.key = column.value;
      list.page = 0;
      drawList();
    } }, column.heading));
  });
  find("listing").tHead.replaceChildren(make("tr", {}, ...heads));
}

function chosenCards() {
  const wanted = find("filter").value.trim().toLowerCase();
  const cards = list.cards.map((card, i) => ({ ...card, i }));
  const isWanted = (card) => card.text.includes(wanted) || card.stratum.includes(wanted) || String(card.index) === wanted;
  const chosen = cards.length ? cards.filter(isWanted).filter(inRange(columns())) : [];
  if (list.key) chosen.sort((a, b) => compare(list.key(a), list.key(b), list.direction));
  return chosen;
}

function drawList() {
  const chosen = chosenCards();
  const first = list.page * PAGE;
  const rows = chosen.slice(first, first + PAGE).map((card) =>
    make("tr", { onclick: () => openCard(list.n, card.i) },
      ...columns().map((column) => make("td", { class: column.isNumber ? "number" : null }, column.show(card)))));
  find("listing").tBodies[0].replaceChildren(...rows);
  const last = Math.min(first + PAGE, chosen.length);
  const none = list.cards.length ? `none of ${list.cards.length.toLocaleString("en")} fits the filter` : "";
  find("shown").textContent = chosen.length ? `${first + 1} to ${last} of ${chosen.length.toLocaleString("en")}` : none;
  find("clear").hidden = !none || chosen.length > 0;
  for (const id of ["previous", "next"]) find(id).hidden = !chosen.length;
  find("previous").disabled = first === 0;
  find("next").disabled = last >= chosen.length;
}

async function choose(n) {
  const chosen = decompositions[n];
  Object.assign(list, { n, cards: [], page: 0, key: null, direction: 1 });
  find("decomposition").value = String(n);
  find("listing").hidden = !chosen.n_cards;
  if (chosen.missing || !chosen.units.total) {
    find("units").textContent = chosen.missing
      ? "The cards are gone from the cache: run the suite again, then write the report anew."
      : "It has no latents: there is nothing to read.";
    return drawList();
  }
  const count = (number) => number.toLocaleString("en");
  const told = ({ total, dead, rare, no_contrast }, units) =>
    `${count(total)} ${units}: ${count(dead)} dead, ${count(rare)} rare, ${count(no_contrast)} without contrast`;
  find("units").textContent =
    `On ${count(chosen.n_rows)} rows of ${count(chosen.n_documents)} documents ${told(chosen.latents, "latents")}` +
    `${chosen.signed ? `; as ${told(chosen.units, "poles")}` : ""}. ${chosen.n_cards} sampled evenly from four strata of density.`;
  drawHeads();
  drawRange(columns());
  try {
    const cards = await load(String(n));
    if (list.n === n) Object.assign(list, { cards });
  } catch (error) {
    find("units").textContent = error.message;
  }
  drawList();
}

/* A card */

const heading = (text) => make("h4", {}, text);

function rowsTable(caption, heads, rows) {
  const head = heads.map((text, i) => make("th", { scope: "col", class: i ? "number" : null }, text));
  const body = rows.map((row) => make("tr", {}, ...row.map((value, i) => make("td", { class: i ? "number" : null }, value))));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

function context(window_, card, marks) {
  const text = make("div", { class: "context", dir: "auto" });
  window_.tokens.forEach((token, i) => {
    const strength = window_.activations[i] / card.max;
    if (!(strength > 0)) return text.append(token);
    const span = make("span", { class: card.sign < 0 ? "negative" : "positive", title: short(window_.activations[i]) }, token || EMPTY);
    span.style.setProperty("--strength", Math.min(1, strength).toFixed(3));
    text.append(span);
  });
  return make("li", {}, make("small", { title: `document ${window_.document}` }, window_.sample), make("div", {}, text, ...verdictMarks(marks)));
}

// Verdicts are of test windows, by their places in the card.
function half(title, drawn, windows, card, verdicts = new Map()) {
  const places = new Map(windows.map((one, place) => [one, place]));
  const contexts = (shown) => make("ul", { class: "contexts" }, ...shown.map((one) => context(one, card, verdicts.get(places.get(one)))));
  const peak = (one) => Math.max(...one.activations);
  const active = windows.filter((one) => one.is_active).sort((a, b) => peak(b) - peak(a));
  const silent = windows.filter((one) => !one.is_active);
  return [
    heading(title), make("p", { class: "hint" }, drawn),
    active.length ? contexts(active) : make("p", { class: "hint" }, "No window where it is active."),
    make("details", {}, make("summary", {}, silent.length === 1 ? "1 window where it is silent" : `${silent.length} windows where it is silent`), contexts(silent)),
  ];
}

function histogram({ edges, counts }) {
  if (!counts.length) return make("p", { class: "hint" }, "No activations.");
  const [width, height, top] = [300, 90, Math.log10(1 + Math.max(...counts))];
  const bars = counts.map((count, i) => {
    const size = (Math.log10(1 + count) / top) * height;
    const bar = { x: (i * width) / counts.length, y: height - size, width: width / counts.length - 1, height: size };
    return draw("rect", bar, draw("title", {}, `${short(edges[i])} to ${short(edges[i + 1])}: ${short(count)} rows`));
  });
  const axis = [["start", 0, edges[0]], ["end", width, edges[edges.length - 1]]].map(([anchor, x, value]) =>
    draw("text", { x, y: height + 11, "text-anchor": anchor }, short(value)));
  const named = `Histogram of ${short(counts.reduce((a, b) => a + b))} activations`;
  return draw("svg", { viewBox: `0 0 ${width} ${height + 14}`, class: "histogram", role: "img", "aria-label": named }, ...bars, ...axis);
}

function lens(found) {
  if (found.reason) return [make("p", { class: "hint" }, `None: ${found.reason}.`)];
  const side = (title, items) => rowsTable(title, ["token", "logit"], items.map((item) => [tokenChip(item.token), short(item.logit)]));
  return [make("div", { class: "lens" }, side("promoted", found.promoted), side("suppressed", found.suppressed))];
}

function nearest(card, n) {
  if (!card.nearest.length) return [make("p", { class: "hint" }, "None: there is no dictionary to compare in.")];
  const link = (index) => {
    const i = list.cards.findIndex((other) => other.index === index);
    if (i < 0 || n !== list.n) return String(index); // a card may have been opened from that of a relative
    return make("button", { type: "button", class: "open", onclick: () => openCard(list.n, i) }, String(index));
  };
  return [rowsTable("by cosine in the dictionary", ["latent", "cosine"], card.nearest.map((one) => [link(one.index), short(one.cosine)]))];
}

function relatives(title, kin) {
  if (!kin) return [];
  const link = (one) => {
    const name = `${one.index}${one.sign < 0 ? "−" : ""}`;
    if (one.place === null) return name;
    return make("button", { type: "button", class: "open", onclick: () => openCard(one.list, one.place) }, name);
  };
  const rows = kin.map((one) => [one.method, link(one), short(one.weight)]);
  return [make("details", { open: kin.length <= 12 ? "" : null }, make("summary", {}, `${title} (${kin.length})`), rowsTable("weight: how much it belongs there", ["method", "latent", "weight"], rows))];
}

function explanations(card) {
  const said = (one) => one.text ?? make("span", { class: "hint" }, `none: ${one.reason}`);
  return card.explanations.flatMap((one) => [heading(`Explained by ${one.explainer}`), make("p", { class: "source", dir: "auto" }, said(one))]);
}

function source(card) {
  if (!card.source) return [];
  const { document: id, before, token, after } = card.source;
  return [heading("Taken from"), make("p", { class: "source", dir: "auto", title: `document ${id}` }, before, make("mark", {}, token || EMPTY), after)];
}

function drawCard(n, card) {
  const { scorers } = decompositions[n];
  const verdicts = verdictsByWindow(card, scorers);
  const tokens = card.top_tokens.map((one) => [tokenChip(one.token), `${one.n_active} of ${one.n}`, percent(one.n_active / one.n), short(one.mean)]);
  const facts = {
    density: percent(card.density), "active share": percent(card.active_share), stratum: card.stratum, "active above": short(card.threshold), largest: short(card.max),
    "active rows": `${short(card.n_active)} in ${short(card.n_documents)} documents`,
  };
  const close = make("button", { type: "button", class: "close", onclick: () => find("card").close() }, "Close");
  const title = make("h3", { id: "card-title", tabindex: "-1" }, `Latent ${decompositions[n].signed ? unitName(card) : card.index}`);
  find("card").replaceChildren(
    make("div", { class: "card-head" }, make("div", {}, title, make("p", {}, decompositions[n].label)), close),
    make("div", { class: "card-body" },
      make("div", {}, ...explanations(card), ...source(card), ...scores(card, scorers),
        ...half("Windows that explain it", "From the top of its activations, evenly from their quantiles, or at random. The stronger the colour, the larger the activation.", card.explain, card),
        ...half("Windows that test it", `Of other documents.${verdicts.size ? " What scorers said of each, by their numbers: ✓ right, ✗ wrong, – no answer." : ""}`, card.test, card, verdicts)),
      make("div", { class: "side" },
        heading("Activity"), make("dl", {}, ...Object.entries(facts).flatMap(([name, fact]) => [make("dt", {}, name), make("dd", {}, fact)])),
        histogram(card.histogram), make("p", { class: "hint" }, "Activations of all rows; heights are logarithms."),
        heading("Top tokens"), rowsTable("P: how often the token has it active", ["token", "active", "P", "mean"], tokens),
        heading("Logit lens"), ...lens(card.lens),
        heading("Nearest latents"), ...nearest(card, n),
        ...relatives("Members", card.members), ...relatives("In groups", card.parents))));
  find("card").scrollTop = 0;
}

async function openCard(n, i) {
  const dialog = find("card");
  try {
    drawCard(n, await load(`${n}/${i}`));
  } catch (error) {
    dialog.replaceChildren(make("p", { class: "card-head" }, error.message));
  }
  if (!dialog.open) {
    find("listing").querySelector(`[data-card="${i}"]`)?.focus({ preventScroll: true }); // where closing leads back to
    dialog.showModal();
  }
  find("card-title")?.focus(); // what had the focus may have been redrawn
  history.replaceState(null, "", `#latent/${n}/${i}`);
}

async function followLink() {
  const link = location.hash.match(/^#latent\/(\d+)\/(\d+)$/);
  if (!link || !decompositions[link[1]]) return;
  await choose(Number(link[1]));
  if (list.cards[link[2]]) openCard(Number(link[1]), Number(link[2]));
}

function named(one) {
  if (one.n_cards) return one.label;
  return `${one.label} (${one.missing || one.units.total ? "no cards" : "no latents"})`;
}

if (decompositions.length) {
  find("decomposition").append(...decompositions.map((one, n) => make("option", { value: n }, named(one))));
  find("decomposition").addEventListener("change", (event) => choose(Number(event.target.value)));
  for (const id of ["filter", "ranged", "from", "to"]) find(id).addEventListener("input", () => { list.page = 0; drawList(); });
  find("clear").addEventListener("click", () => {
    for (const id of ["filter", "from", "to"]) find(id).value = "";
    list.page = 0;
    drawList();
    find("filter").focus();
  });
  find("browser").addEventListener("submit", (event) => event.preventDefault());
  find("previous").addEventListener("click", () => { list.page -= 1; drawList(); });
  find("next").addEventListener("click", () => { list.page += 1; drawList(); });
  find("card").addEventListener("close", () => history.replaceState(null, "", "#latents"));
  find("card").addEventListener("click", (event) => { if (event.target === find("card")) find("card").close(); });
  window.addEventListener("hashchange", followLink);
  choose(Math.max(0, decompositions.findIndex((one) => one.n_cards))).then(followLink);
}
