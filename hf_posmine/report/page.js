"use strict";
// The table of rows: columns are unpacked from the page itself, rows are drawn a page at a time, texts only as textContent.
(async () => {
  const byId = (id) => document.getElementById(id);
  const meta = JSON.parse(byId("meta").textContent);
  const LINE = meta.line; // texts per line
  const SLICE = 20000; // texts searched before the page may breathe
  const SHOWN = 4; // negatives of a closed row
  const number = new Intl.NumberFormat("en");

  // ---- unpacking ----
  const unpack = async (id) => {
    const binary = atob(byId(id).textContent);
    byId(id).textContent = "";
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
  };
  const bounds = (counts) => {
    const found = new Int32Array(counts.length + 1);
    counts.forEach((count, i) => { found[i + 1] = found[i] + count; });
    return found;
  };
  let data, lines;
  try {
    const unpacked = await Promise.all([unpack("columns"), unpack("texts")]);
    data = JSON.parse(unpacked[0]);
    lines = unpacked[1].trimEnd().split("\n");
  } catch (error) {
    byId("status").textContent = "This browser cannot unpack the table; a current one can. " + error.message;
    return;
  }
  const blocks = [];
  const block = (i) => (blocks[i] ??= JSON.parse(lines[i]));
  const text = (i) => block(Math.floor(i / LINE))[i % LINE];
  const texts = lines.length ? (lines.length - 1) * LINE + block(lines.length - 1).length : 0;
  const total = data.row.length;
  for (const name of ["negatives", "positives", "other"]) if (data[name]) data[name].bounds = bounds(data[name].counts);
  const span = (name, row) => [data[name].bounds[row], data[name].bounds[row + 1]];
  const list = (name, row) => data[name] ? data[name].values.slice(...span(name, row)) : [];
  const others = data.other ? bounds(data.other.counts) : null;

  // ---- values that columns show and sort by ----
  const margins = data.scores && (data.own || data.positive_score) ? new Float64Array(total) : null;
  const ranks = data.ranks ? new Float64Array(total) : null;
  for (let row = 0; row < total; row++) {
    const [first, last] = span("negatives", row);
    if (margins) margins[row] = NaN;
    if (ranks) ranks[row] = NaN;
    for (let i = first; i < last; i++) {
      if (margins && data.scores[i] !== null) {
        const positive = data.own ? data.own[i] : data.positive_score[row];
        const margin = positive === null ? NaN : positive - data.scores[i];
        if (!(margins[row] <= margin)) margins[row] = margin;
      }
      if (ranks && data.ranks[i] >= 0 && !(ranks[row] <= data.ranks[i])) ranks[row] = data.ranks[i];
    }
  }
  const place = data.at ?? data.row;
  const columns = [
    { key: "row", title: "Row", value: (row) => place[row] },
    { key: "query", title: "Query", text: (row) => text(data.query[row]) },
    { key: "positive", title: "Positive", value: data.positive_score && ((row) => data.positive_score[row] ?? NaN), hint: "by score" },
    { key: "negatives", title: "Negatives", value: (row) => data.negatives.counts[row], hint: "by number" },
    margins && { key: "margin", title: "Margin", value: (row) => margins[row], hint: "by the smallest" },
    ranks && { key: "rank", title: "Rank", value: (row) => ranks[row], hint: "by the lowest" },
    data.jaccard && { key: "overlap", title: "Overlap", value: (row) => data.jaccard[row] ?? NaN },
    meta.kinds.length && { key: "notes", title: "Notes" },
  ].filter((column) => column && (column.key !== "positive" || data.positives));

  // ---- search: which texts hold each word, then which rows hold those texts ----
  const seen = new Map();
  const pause = () => new Promise((done) => setTimeout(done));
  const escaped = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const words = (wanted) => [...wanted.matchAll(/"([^"]+)"|(\S+)/g)].map((m) => m[1] ?? m[2].replaceAll('"', "")).filter(Boolean);
  const holding = async (word, fresh) => {
    if (seen.has(word)) return seen.get(word);
    const pattern = new RegExp(escaped(word), "iu");
    const hits = new Uint8Array(texts);
    for (let i = 0; i < texts; i++) {
      if (pattern.test(text(i))) hits[i] = 1;
      if (i % SLICE === SLICE - 1) { await pause(); if (!fresh()) return null; }
    }
    if (seen.size > 20) seen.clear();
    seen.set(word, hits);
    return hits;
  };
  const rowsWithId = (word) => {
    const found = new Set();
    if (!data.ids) return found;
    for (let row = 0, i = 0; row < total; row++) for (const last = data.negatives.bounds[row + 1]; i < last; i++) if (data.ids[i] === word) found.add(row);
    return found;
  };
  const anyHit = (name, row, hits) => {
    if (!data[name]) return false;
    const [first, last] = span(name, row);
    for (let i = first; i < last; i++) if (hits[data[name].values[i]]) return true;
    return false;
  };
  const matcher = async (word, where, fresh) => {
    if (/^#\d+$/.test(word)) { const wanted = Number(word.slice(1)); return (row) => data.row[row] === wanted; }
    const hits = await holding(word, fresh);
    if (!hits) return null;
    const ids = where === "all" ? rowsWithId(word) : new Set();
    return (row) => ids.has(row) || ((where === "all" || where === "query") && hits[data.query[row]] === 1)
      || (where !== "query" && ["positives", "negatives"].some((name) => (where === "all" || where === name) && anyHit(name, row, hits)));
  };

  // ---- what is shown ----
  const state = { order: Int32Array.from({ length: total }, (_, i) => i), sort: "row", down: false, page: 0, open: new Set(), words: [] };
  let run = 0;
  const filters = () => {
    const kind = byId("kind").value, split = byId("split").value, changed = byId("changed").value;
    const mask = kind === "any" ? -1 : kind === "" ? 0 : 1 << Number(kind);
    const same = { changed: (j) => j !== null && j < 1, same: (j) => j === 1, alone: (j) => j === null }[changed];
    return (row) => (mask === 0 || (data.flags[row] & mask) !== 0) && (split === "" || data.split[row] === Number(split))
      && (!same || same(data.jaccard[row]));
  };
  const select = async () => {
    const mine = ++run, fresh = () => mine === run;
    byId("table").setAttribute("aria-busy", "true");
    state.words = words(byId("search").value);
    const tests = [filters()];
    for (const word of state.words) {
      const test = await matcher(word, byId("where").value, fresh);
      if (!test || !fresh()) return;
      tests.push(test);
    }
    const found = [];
    for (let row = 0; row < total; row++) if (tests.every((test) => test(row))) found.push(row);
    state.order = Int32Array.from(found);
    state.page = 0;
    sort();
    draw();
  };
  const sort = () => {
    const column = columns.find((held) => held.key === state.sort), sign = state.down ? -1 : 1;
    if (column.text) {
      const keys = new Map(Array.from(state.order, (row) => [row, column.text(row).toLowerCase()]));
      state.order.sort((a, b) => { const x = keys.get(a), y = keys.get(b); return x < y ? -sign : x > y ? sign : a - b; });
      return;
    }
    const keys = new Float64Array(total);
    for (const row of state.order) keys[row] = column.value(row);
    state.order.sort((a, b) => { // what is missing comes last either way
      const x = keys[a], y = keys[b];
      return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) || a - b : sign * (x - y) || a - b;
    });
  };

  // ---- drawing ----
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const marked = (content) => { // searched words stand out, and an image is in the place of its name
    const name = /^image:[0-9a-f]{32}/.exec(content)?.[0], picture = name && data.images?.[name];
    if (picture) return [make("img", { class: "thumb", src: picture, alt: name, title: name }), ...marked(content.slice(name.length))];
    const plain = state.words.filter((word) => !/^#\d+$/.test(word)).map(escaped);
    if (!plain.length) return [content];
    return content.split(new RegExp(`(${plain.join("|")})`, "iu")).map((part, i) => (i % 2 ? make("mark", {}, part) : part));
  };
  const score = (value) => (value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(3));
  const flagged = (row) => meta.kinds.filter((_, bit) => data.flags[row] & (1 << bit));
  const label = (row) => (data.split ? meta.splits[data.split[row]] + " " : "") + number.format(data.row[row]);
  const cells = {
    query: (row) => [make("div", { class: "clamp", dir: "auto" }, ...marked(text(data.query[row])))],
    positive: (row) => {
      const found = list("positives", row);
      const shown = found.length ? make("div", { class: "clamp", dir: "auto" }, ...marked(text(found[0]))) : "–";
      const more = found.length > 1 ? `, and ${found.length - 1} more` : "";
      return [shown, make("span", { class: "score" }, (data.positive_score ? "score " + score(data.positive_score[row]) : "") + more)];
    },
    negatives: (row) => {
      const [first] = span("negatives", row), found = list("negatives", row);
      if (!found.length) return ["none"];
      const theirs = data.other && data.jaccard[row] !== null ? new Set(list("other", row)) : null;
      const lines = found.slice(0, SHOWN).map((index, i) => {
        const isNew = theirs && !theirs.has(index);
        const facts = data.scores ? score(data.scores[first + i]) + " " : "";
        const line = make("li", isNew ? { class: "new" } : {}, isNew ? "+ " : "", make("span", { class: "score" }, facts));
        line.append(make("bdi", {}, ...marked(text(index).slice(0, 200))));
        return line;
      });
      const more = found.length > SHOWN ? [make("span", { class: "score" }, `and ${found.length - SHOWN} more`)] : [];
      return [make("ol", { class: "lines" }, ...lines), ...more];
    },
    margin: (row) => [score(margins[row])],
    rank: (row) => [Number.isNaN(ranks[row]) ? "–" : number.format(ranks[row])],
    overlap: (row) => [data.jaccard[row] === null ? "–" : data.jaccard[row].toFixed(2)],
    notes: (row) => flagged(row).map((kind) => make("span", { class: "flag", title: kind.title }, kind.name)),
  };
  const factsOf = (row, i) => {
    const facts = [], positive = data.own ? data.own[i] : data.positive_score?.[row];
    if (data.scores) facts.push("score " + score(data.scores[i]));
    if (data.own) facts.push("positive " + score(positive));
    if (data.scores && positive > 0 && data.scores[i] !== null) facts.push(Math.round((100 * data.scores[i]) / positive) + "% of the positive's");
    if (data.second && data.second[i] !== null) facts.push("second opinion " + score(data.second[i]));
    if (data.ranks) facts.push(data.ranks[i] < 0 ? "drawn at random" : "rank " + number.format(data.ranks[i]));
    if (data.teachers) facts.push("by " + meta.teachers[data.teachers[i]]);
    if (data.ids) facts.push("id " + data.ids[i]);
    return facts.join(" · ");
  };
  const entry = (index, facts) => make("li", {}, make("p", { dir: "auto" }, ...marked(text(index))), make("p", { class: "score" }, ...marked(facts)));
  const detail = (row) => {
    const parts = make("dl"), [first] = span("negatives", row), found = list("negatives", row);
    const add = (title, ...content) => parts.append(make("dt", {}, title), make("dd", {}, ...content));
    add("Query", make("p", { dir: "auto" }, ...marked(text(data.query[row]))));
    const positives = list("positives", row);
    if (positives.length) {
      const limits = [data.positive_score && "score " + score(data.positive_score[row]),
        data.second_positive && "second opinion " + score(data.second_positive[row]), data.ceiling && data.ceiling[row] !== null && "ceiling " + score(data.ceiling[row])];
      add(positives.length > 1 ? "Positives" : "Positive", ...positives.map((index) => make("p", { dir: "auto" }, ...marked(text(index)))),
        make("p", { class: "score" }, limits.filter(Boolean).join(" · ")));
    }
    if (flagged(row).length) add("Notes", ...flagged(row).map((kind) => make("p", {}, kind.title)));
    const mine = new Set(found), theirs = data.other && data.jaccard[row] !== null ? list("other", row) : null;
    const kept = new Set(theirs ?? []);
    const isNew = (index) => (theirs && !kept.has(index) ? ` · not in ${meta.other}` : "");
    add("Negatives", found.length ? make("ol", {}, ...found.map((index, i) => entry(index, factsOf(row, first + i) + isNew(index)))) : "none");
    if (theirs) {
      const start = others[row];
      const gone = theirs.map((index, i) => [index, start + i]).filter(([index]) => !mine.has(index));
      const facts = (i) => [data.other_scores && "score " + score(data.other_scores[i]), data.other_ranks && "rank " + number.format(data.other_ranks[i])].filter(Boolean).join(" · ");
      add("Only in " + meta.other, gone.length ? make("ol", {}, ...gone.map(([index, i]) => entry(index, facts(i)))) : "none");
    }
    return make("tr", { class: "detail", id: "detail-" + row }, make("td", { colspan: columns.length }, parts));
  };
  const body = byId("table").tBodies[0];
  const drawRow = (row) => {
    const open = state.open.has(row);
    const button = make("button", { type: "button", "data-at": row, "aria-expanded": open, "aria-label": "Row " + label(row) }, label(row));
    if (open) button.setAttribute("aria-controls", "detail-" + row);
    const line = make("tr", {}, make("th", { scope: "row", class: "row" }, button));
    for (const { key } of columns.slice(1)) line.append(make("td", { class: key }, ...cells[key](row)));
    return open ? [line, detail(row)] : [line];
  };
  const pages = () => Math.max(1, Math.ceil(state.order.length / Number(byId("size").value)));
  const draw = () => {
    const size = Number(byId("size").value);
    body.replaceChildren(...Array.from(state.order.subarray(state.page * size, (state.page + 1) * size), drawRow).flat());
    for (const head of byId("table").tHead.querySelectorAll("th[data-key]")) {
      if (head.dataset.key === state.sort) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    const found = state.order.length;
    byId("table").removeAttribute("aria-busy");
    byId("status").textContent = found ? `${number.format(found)} of ${number.format(total)} rows, page ${number.format(state.page + 1)} of ${number.format(pages())}` : "No row matches.";
    byId("page").textContent = `${number.format(state.page + 1)} / ${number.format(pages())}`;
    for (const button of byId("pager").querySelectorAll("button")) {
      const back = ["first", "previous"].includes(button.dataset.page);
      button.disabled = back ? state.page === 0 : state.page >= pages() - 1;
    }
  };
  const turn = (to) => {
    state.page = Math.min(pages() - 1, Math.max(0, to));
    draw();
  };
  const toggle = (button) => {
    const row = Number(button.dataset.at), line = button.closest("tr");
    if (state.open.delete(row)) line.nextElementSibling.remove();
    else state.open.add(row), line.after(detail(row));
    button.setAttribute("aria-expanded", state.open.has(row));
    if (state.open.has(row)) button.setAttribute("aria-controls", "detail-" + row);
    else button.removeAttribute("aria-controls");
  };

  // ---- controls ----
  const head = make("tr");
  for (const { key, title, value, text: byText, hint } of columns) {
    const sorts = value || byText;
    const content = sorts ? make("button", { type: "button", title: "Sort " + (hint ?? "") }, title) : title;
    head.append(make("th", sorts ? { scope: "col", class: key, "data-key": key } : { scope: "col", class: key }, content));
  }
  byId("table").tHead.replaceChildren(head);
  byId("table").tHead.before(make("colgroup", {}, ...columns.map(({ key }) => make("col", { class: key }))));
  head.addEventListener("click", (event) => {
    const key = event.target.closest("button") && event.target.closest("th").dataset.key;
    if (!key) return;
    state.down = state.sort === key && !state.down;
    state.sort = key;
    sort();
    turn(0);
  });
  const counts = meta.kinds.map((_, bit) => data.flags.reduce((sum, mask) => sum + ((mask >> bit) & 1), 0));
  meta.kinds.forEach((kind, bit) => byId("kind").append(make("option", { value: bit }, `${kind.title} (${number.format(counts[bit])})`)));
  if (data.split) {
    meta.splits.forEach((name, i) => byId("split").append(make("option", { value: i }, name)));
    byId("split-label").hidden = false;
  }
  if (data.jaccard) byId("changed-label").hidden = false;
  if (!data.positives) byId("where").querySelector("[value=positives]").remove();

  let waiting;
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("search").addEventListener("input", () => {
    byId("table").setAttribute("aria-busy", "true");
    clearTimeout(waiting);
    waiting = setTimeout(select, 150);
  });
  for (const id of ["where", "kind", "split", "changed"]) byId(id).addEventListener("change", select);
  byId("size").addEventListener("change", () => turn(0));
  byId("controls").addEventListener("reset", () => { byId("table").setAttribute("aria-busy", "true"); setTimeout(select); });
  byId("pager").addEventListener("click", ({ target }) => {
    const to = { first: 0, previous: state.page - 1, next: state.page + 1, last: pages() - 1 }[target.dataset.page];
    if (to !== undefined) turn(to);
  });
  body.addEventListener("click", ({ target }) => { const button = target.closest("th button"); if (button) toggle(button); });

  const rowButtons = () => [...body.querySelectorAll("th button")];
  const move = (event) => {
    const buttons = rowButtons(), at = buttons.indexOf(document.activeElement), step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !buttons.length || (at < 0 && !(document.activeElement === byId("search") && step > 0))) return;
    event.preventDefault();
    const to = at + step;
    if (to >= buttons.length && state.page < pages() - 1) { turn(state.page + 1); rowButtons()[0].focus(); }
    else if (to < 0 && state.page > 0) { turn(state.page - 1); rowButtons().at(-1).focus(); }
    else if (to < 0) byId("search").focus();
    else buttons[Math.min(to, buttons.length - 1)].focus();
  };
  byId("rows").addEventListener("keydown", move);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    event.preventDefault();
    byId("search").focus();
  });
  document.querySelector("main").addEventListener("click", async (event) => { // links from above into the table
    const link = event.target.closest("a[data-row], a[data-kind], a[data-changed]");
    if (!link) return;
    event.preventDefault();
    for (const id of ["search", "split"]) byId(id).value = "";
    byId("where").value = "all";
    byId("kind").value = link.dataset.kind ?? "";
    byId("changed").value = link.dataset.changed ?? "";
    state.sort = link.dataset.sort ?? "row";
    state.down = false;
    if (link.dataset.row) await showRow(Number(link.dataset.row));
    else {
      await select();
      byId("rows").scrollIntoView();
      byId("rows").focus({ preventScroll: true });
    }
  });
  const showRow = async (wanted) => {
    await select();
    const row = place.indexOf(wanted);
    if (row < 0) return;
    state.page = Math.floor(state.order.indexOf(row) / Number(byId("size").value));
    state.open.add(row);
    draw();
    const button = body.querySelector(`[data-at="${row}"]`);
    button.focus();
    button.scrollIntoView({ block: "center" });
  };

  byId("controls").hidden = byId("pager").hidden = false;
  sort();
  draw();
  document.documentElement.dataset.ready = "true";
})();
