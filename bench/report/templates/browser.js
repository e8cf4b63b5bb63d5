"use strict";
// The browser of samples: reads the inert data beside it, filters, and shows a page of them. Texts are set as text only.
(() => {
  const byId = (id) => document.getElementById(`browser-${id}`);
  const data = JSON.parse(byId("data").textContent);
  const { writers, arms, judges, duels, rewards, samples } = data;
  const ID = 0, POST = 1, TEXTS = 2, VERDICTS = 3; // of a sample
  const TEXT = 0, TOKENS = 1, REWARDS = 2, KL = 3, DEGENERATE = 4; // of a writer's row
  const WORDS = { win: "wins", loss: "loses", tie: "tie", unparsed: "not parsed" };
  let found = samples, page = 0;

  const duelOf = new Map();
  duels.forEach(([a, b], place) => {
    duelOf.set(`${a} ${b}`, { place, first: "a" });
    duelOf.set(`${b} ${a}`, { place, first: "b" });
  });

  // What a judge said of `arm` against `other`: shown first, then shown second; a missing order is left out.
  function said(sample, judge, arm, other) {
    const duel = duelOf.get(`${arm} ${other}`);
    if (!duel) return [];
    const letters = sample[VERDICTS][judge].slice(2 * duel.place, 2 * duel.place + 2);
    const shown = duel.first === "a" ? letters : letters[1] + letters[0];
    return [...shown].filter((letter) => letter !== ".").map((letter) =>
      letter === "t" ? "tie" : letter === "u" ? "unparsed" : letter === duel.first ? "win" : "loss");
  }

  // Over both orders, as win rates count it: disagreement is a tie, and one that is not parsed leaves none.
  function outcome(labels) {
    if (labels.length === 0) return null;
    if (labels.includes("unparsed")) return "unparsed";
    return labels.every((label) => label === labels[0]) ? labels[0] : "tie";
  }

  const isFlipped = (labels) => labels.length === 2 && !labels.includes("unparsed") && labels[0] !== labels[1];

  function chosen() {
    const of = (id) => Number(byId(id).value);
    return {
      query: byId("search").value.trim().toLowerCase(), arm: of("arm"), other: of("against"), judge: of("judge"),
      outcome: byId("outcome").value, base: of("base"), size: of("size"),
      disagree: byId("disagree").checked, flipped: byId("flipped").checked,
      degenerate: byId("degenerate").checked, distinct: byId("distinct").checked,
    };
  }

  function matches(sample, of) {
    const labels = judges.length ? said(sample, of.judge, of.arm, of.other) : [];
    if (of.outcome && outcome(labels) !== of.outcome) return false;
    if (of.flipped && !isFlipped(labels)) return false;
    if (of.disagree) {
      const all = judges.map((_, judge) => outcome(said(sample, judge, of.arm, of.other)));
      if (new Set(all.filter((one) => one && one !== "unparsed")).size < 2) return false;
    }
    const texts = sample[TEXTS];
    if (of.degenerate && !texts.some((row) => row && row[DEGENERATE] && row[DEGENERATE].length)) return false;
    if (of.distinct && texts[of.arm] && texts[of.other] && texts[of.arm][TEXT] === texts[of.other][TEXT]) return false;
    const holds = (text) => text.toLowerCase().includes(of.query);
    return !of.query || holds(sample[ID]) || holds(sample[POST]) || texts.some((row) => row && holds(row[TEXT]));
  }

  function element(tag, text, name) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  // `text` with what `base` lacks marked as inserted and what only `base` has as deleted: by the longest common
  // subsequence of their words.
  function difference(base, text) {
    const a = base.split(/\s+/).filter(Boolean), b = text.split(/\s+/).filter(Boolean);
    const width = b.length + 1, common = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--)
      for (let j = b.length - 1; j >= 0; j--)
        common[i * width + j] = a[i] === b[j] ? common[(i + 1) * width + j + 1] + 1
          : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    const runs = [];
    const add = (tag, word) => {
      const last = runs[runs.length - 1];
      if (last && last.tag === tag) last.words.push(word); else runs.push({ tag, words: [word] });
    };
    let i = 0, j = 0;
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) { add("span", b[j]); i++; j++; }
      else if (j === b.length || (i < a.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) add("del", a[i++]);
      else add("ins", b[j++]);
    }
    return runs.flatMap(({ tag, words }) => [element(tag, words.join(" ")), " "]);
  }

  function card(sample, writer, of) {
    const row = sample[TEXTS][writer], made = element("section", undefined, "writer");
    made.append(element("h4", writers[writer]));
    if (!row) { made.append(element("p", "no summary", "measures")); return made; }
    const text = element("p", undefined, "text"), base = of.base >= 0 && of.base !== writer && sample[TEXTS][of.base];
    text.dir = "auto";
    if (base) text.append(...difference(base[TEXT], row[TEXT]));
    else if (row[TEXT]) text.textContent = row[TEXT];
    else text.append(element("em", "empty"));
    const words = row[TEXT].split(/\s+/).filter(Boolean).length;
    const measures = [`${words} words`];
    if (row[TOKENS] != null) measures.push(`${row[TOKENS]} tokens`);
    rewards.forEach((name, place) => {
      if (row[REWARDS] && row[REWARDS][place] != null) measures.push(`${name} reward ${row[REWARDS][place]}`);
    });
    if (row[KL] != null) measures.push(`KL ${row[KL]}`);
    if (row[DEGENERATE] && row[DEGENERATE].length) measures.push(`degenerate: ${row[DEGENERATE].join(", ").replaceAll("_", " ")}`);
    made.append(text, element("p", measures.join(", "), "measures"));
    const chips = element("ul", undefined, "chips");
    judges.forEach((name, judge) => {
      const labels = said(sample, judge, writer, of.other), whole = outcome(labels);
      if (!whole) return;
      const tone = whole === "win" ? "good" : whole === "loss" ? "bad" : "open";
      const spoken = labels.map((label) => WORDS[label]).join(", ");
      chips.append(element("li", `${name}: ${spoken}${isFlipped(labels) ? " (flipped)" : ""}`, tone));
    });
    if (chips.children.length) {
      chips.setAttribute("aria-label", `Against ${writers[of.other]}, shown first and shown second`);
      made.append(chips);
    }
    return made;
  }

  function article(sample, place, of) {
    const made = element("article", undefined, "sample"), title = element("h3", sample[ID]);
    title.id = `browser-sample-${place}`;
    made.tabIndex = -1;
    made.setAttribute("aria-labelledby", title.id);
    const beside = element("div", undefined, "beside"), all = element("div", undefined, "writers");
    const post = element("div", sample[POST], "literal");
    post.dir = "auto";
    all.append(...writers.map((_, writer) => card(sample, writer, of)));
    beside.append(post, all);
    made.append(title, beside);
    return made;
  }

  function show() {
    const of = chosen(), pages = Math.max(1, Math.ceil(found.length / of.size));
    page = Math.min(Math.max(page, 0), pages - 1);
    const start = page * of.size, shown = found.slice(start, start + of.size);
    byId("samples").replaceChildren(...shown.map((sample, place) => article(sample, place, of)));
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
    const which = shown.length ? `${start + 1} to ${start + shown.length} of ` : "";
    const of_all = found.length === samples.length ? "" : ` (${samples.length} without filters)`;
    byId("status").textContent = `${which}${found.length} samples${of_all}`
      + (judges.length ? `; verdicts against ${writers[of.other]}: shown first, shown second` : "");
  }

  function filter() {
    const of = chosen();
    found = samples.filter((sample) => matches(sample, of));
    page = 0;
    show();
  }

  function turn(by) { page += by; show(); }

  // The sample `by` further on, on the next or the previous page where this one has no more.
  function step(by) {
    const shown = [...byId("samples").children];
    const at = shown.indexOf(document.activeElement && document.activeElement.closest(".sample"));
    let next = at < 0 ? (by > 0 ? 0 : shown.length - 1) : at + by;
    if (next < 0 || next >= shown.length) {
      const before = page;
      turn(by);
      if (page === before) return;
      next = by > 0 ? 0 : byId("samples").children.length - 1;
    }
    byId("samples").children[next].focus();
  }

  const KEYS = {
    j: () => step(1), k: () => step(-1), n: () => turn(1), p: () => turn(-1),
    "/": () => byId("search").focus(),
    d: () => { const base = byId("base"); base.selectedIndex = (base.selectedIndex + 1) % base.length; show(); },
  };

  function options(id, names, values) {
    byId(id).replaceChildren(...names.map((name, place) => {
      const made = element("option", name);
      made.value = values[place];
      return made;
    }));
  }

  options("arm", arms.map((arm) => writers[arm]), arms);
  options("against", writers, writers.map((_, writer) => writer));
  options("judge", judges, judges.map((_, judge) => judge));
  options("outcome", ["any", ...Object.values(WORDS)], ["", ...Object.keys(WORDS)]);
  options("base", ["none", ...writers], [-1, ...writers.map((_, writer) => writer)]);
  byId("arm").value = arms[arms.length - 1];
  if (!judges.length) document.querySelector("#browser-whole .judged").hidden = true;
  if (!data.flagged) document.querySelector("#browser-whole .flagged").hidden = true;

  for (const id of ["arm", "against", "judge", "outcome", "disagree", "flipped", "degenerate", "distinct"])
    byId(id).addEventListener("change", filter);
  for (const id of ["base", "size"]) byId(id).addEventListener("change", show);
  let waiting;
  byId("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 150); });
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest && event.target.closest("input:not([type=checkbox]), select, textarea");
    if (typing || event.ctrlKey || event.altKey || event.metaKey || !byId("keys").checked) return;
    const act = KEYS[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  byId("first").hidden = true;
  byId("whole").hidden = false;
  show();
})();
