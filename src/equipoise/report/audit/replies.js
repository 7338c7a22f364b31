"use strict";
// Shows, filters and searches the replies of one run. Nothing is fetched; text reaches the page as text nodes only.
(() => {
  const PAGE = 25, OPEN_BLOCKS = 6;
  const FILTERS = ["variant", "suite", "category", "outcome", "doubt", "order"];
  const COLUMNS = ["variant", "suite", "category", "outcome", "id", "should", "prompt", "reply", "error", "detail",
    "badges", "unscored", "reasons", "reasoning", "by", "finish", "seconds", "key"];
  const at = id => document.getElementById(id);
  let head, columns, matches = [], first = 0, search = 0;
  const open = new Map();

  async function unpack(id) {
    const bytes = Uint8Array.from(atob(at(id).textContent), letter => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }

  // A few blocks stay open, the one used last at the end, so that memory does not grow with the number of rows.
  async function block(number) {
    const rows = open.get(number) || await unpack("block-" + number);
    open.delete(number);
    open.set(number, rows);
    if (open.size > OPEN_BLOCKS) open.delete(open.keys().next().value);
    return rows;
  }

  function element(name, text, kind) {
    const node = document.createElement(name);
    if (text) node.textContent = text;
    if (kind) node.className = kind;
    return node;
  }

  function fill(id, names, values) {
    names.forEach((name, index) => {
      const option = element("option", name || "(none)");
      option.value = values ? values[index] : name || "(none)";
      at(id).append(option);
    });
    at(id).closest("label").hidden = names.length < 2 && id !== "outcome" && id !== "doubt";
  }

  function haystack(row) {
    return [row.id, row.prompt, row.intent, row.system, row.reply, row.error, row.detail, row.unscored, row.reasoning,
      ...(row.reasons || []), ...row.badges.map(badge => badge[0])].join("\n").toLowerCase();
  }

  function candidates() {
    const wanted = {}, doubts = Object.keys(head.doubts), chosen = at("doubt").value;
    for (const name of ["variant", "suite", "category"]) {
      if (at(name).selectedIndex > 0) wanted[name] = at(name).selectedIndex - 1;
    }
    if (at("outcome").value) wanted.outcome = Object.keys(head.outcomes).indexOf(at("outcome").value);
    const mask = chosen === "any" ? -1 : chosen ? 1 << doubts.indexOf(chosen) : 0;
    const kept = [];
    for (let row = 0; row < head.rows; row++) {
      if (mask && !(columns.doubt[row] & mask)) continue;
      if (Object.entries(wanted).every(([name, value]) => columns[name][row] === value)) kept.push(row);
    }
    return kept;
  }

  function sorted(rows) {
    const bits = mask => { let count = 0; for (; mask; mask &= mask - 1) count++; return count; };
    const by = { doubts: row => bits(columns.doubt[row]), slow: row => columns.seconds[row], long: row => columns.length[row] }[at("order").value];
    return by ? rows.map(row => [by(row), row]).sort((a, b) => b[0] - a[0] || a[1] - b[1]).map(pair => pair[1]) : rows;
  }

  async function update(keep) {
    const mine = ++search;
    const words = at("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    let rows = candidates();
    if (words.length) {
      const hits = [];
      let number = -1, content = null;
      for (const [index, row] of rows.entries()) {
        const needed = Math.floor(row / head.block);
        if (needed !== number) {
          content = await unpack("block-" + needed);
          number = needed;
          if (mine !== search) return;
          at("count").textContent = `Searching: ${Math.round(100 * index / rows.length)} %, ${hits.length.toLocaleString("en")} so far`;
        }
        const text = haystack(content[row % head.block]);
        if (words.every(word => text.includes(word))) hits.push(row);
      }
      rows = hits;
    }
    matches = sorted(rows);
    first = keep ? Math.min(first, Math.max(0, matches.length - 1)) : 0;
    first -= first % PAGE;
    remember();
    await show(mine);
  }

  async function show(mine) {
    const shown = matches.slice(first, first + PAGE), nodes = [];
    for (const row of shown) nodes.push(article(row, (await block(Math.floor(row / head.block)))[row % head.block]));
    if (mine !== search) return;
    at("rows").replaceChildren(...nodes);
    at("count").textContent = `${matches.length.toLocaleString("en")} of ${head.rows.toLocaleString("en")} replies`;
    const last = Math.min(first + PAGE, matches.length);
    for (const tail of ["", "2"]) {
      at("which" + tail).textContent = matches.length ? `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")}` : "";
      at("previous" + tail).disabled = first === 0;
      at("next" + tail).disabled = last >= matches.length;
    }
    at("save").disabled = !matches.length;
    if (!matches.length) at("rows").append(element("p", "No reply matches. “Show all” takes every filter away."));
  }

  function labelled(name, text, kind, closed) {
    const holder = element(closed ? "details" : "div", "", closed ? kind : "");
    holder.append(element(closed ? "summary" : "small", name));
    const content = element("div", text, "reply");
    content.dir = "auto";
    holder.append(content);
    return holder;
  }

  function article(number, row) {
    const node = element("article"), where = element("p", "", "where");
    const category = head.categories[columns.category[number]], variant = head.variants[columns.variant[number]];
    const parts = [head.suites[columns.suite[number]], category, row.should, head.variants.length > 1 ? variant : "", row.id];
    parts.filter(Boolean).forEach((part, index) => where.append(index ? " · " : "", element("bdi", part)));
    node.append(where);
    if (row.pictures) {
      const thumbs = element("div", "", "thumbs");
      row.pictures.forEach((name, index) => {
        const picture = document.createElement("img");
        picture.loading = "lazy";
        picture.alt = `Picture ${index + 1} of ${row.pictures.length} sent with “${row.prompt.slice(0, 80)}”`;
        picture.src = head.pictures + "/" + encodeURIComponent(name);
        thumbs.append(picture);
      });
      node.append(thumbs);
    }
    const prompt = element("div", row.prompt, "prompt");
    prompt.dir = "auto";
    node.append(prompt);
    if (row.system) node.append(labelled("System text", row.system, "", true));
    if (row.intent) node.append(labelled("The request in plain words", row.intent, "", true));
    for (const [words, tone] of row.badges) node.append(element("span", words, "chip " + tone), " ");
    if (row.unscored) node.append(element("p", "Unscored: " + row.unscored, "soft"));
    if (row.detail) node.append(labelled(row.by === "server" || !row.reply ? "The server said" : "Beside the reply", row.detail));
    if (row.error && !(row.unscored || "").includes(row.error)) node.append(labelled("No reply came", row.error));
    if (row.reply) node.append(labelled(row.covered ? "Show the reply; it may be harmful" : "Reply", row.reply, "covered", row.covered));
    else if (!row.error) node.append(element("p", row.reply === "" ? "An empty reply." : "No reply.", "soft"));
    if (row.reasoning) node.append(labelled("Reasoning before the reply", row.reasoning, row.covered ? "covered" : "", true));
    if (row.reasons) node.append(labelled("What the judge saw", row.reasons.join("\n"), "", true));
    node.append(facts(row));
    return node;
  }

  function facts(row) {
    const line = element("p", "", "meta");
    const parts = [row.seconds === undefined ? "" : row.seconds + " s",
      row.tokens ? `${row.tokens[0] ?? "?"} tokens in, ${row.tokens[1]} out` : "", "row " + row.key].filter(Boolean);
    line.append(parts.join(" · "));
    if (row.log) {
      const link = element("a", "in inspect's log");
      link.href = head.viewer + encodeURIComponent(row.log) + "/samples/sample/" + encodeURIComponent(row.id) + "/1";
      link.title = row.log;
      link.rel = "noreferrer";
      link.target = "_blank";
      line.append(" · ", link);
    }
    return line;
  }

  function remember() {
    const values = new URLSearchParams();
    for (const name of FILTERS) if (at(name).value) values.set(name, at(name).value);
    if (at("words").value) values.set("words", at("words").value);
    if (first) values.set("from", first);
    history.replaceState(null, "", "#" + values);
  }

  function recall() {
    const values = new URLSearchParams(location.hash.slice(1));
    for (const name of [...FILTERS, "words"]) at(name).value = values.get(name) || "";
    for (const name of FILTERS) if (at(name).selectedIndex < 0) at(name).selectedIndex = 0;
    first = Number(values.get("from")) || 0;
  }

  function cell(value) {
    let text = Array.isArray(value) ? value.map(part => Array.isArray(part) ? part[0] : part).join("; ") : String(value ?? "");
    // A spreadsheet program takes such a cell for a formula.
    if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return '"' + text.replaceAll('"', '""') + '"';
  }

  async function save() {
    const lines = ["\ufeff" + COLUMNS.join(",")];
    for (const number of matches) {
      const row = (await block(Math.floor(number / head.block)))[number % head.block];
      const names = { variant: head.variants[columns.variant[number]], suite: head.suites[columns.suite[number]],
        category: head.categories[columns.category[number]], outcome: Object.values(head.outcomes)[columns.outcome[number]] };
      lines.push(COLUMNS.map(name => cell(names[name] ?? row[name])).join(","));
    }
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = "replies.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  function turn(step) {
    first = Math.max(0, first + step);
    remember();
    show(search).then(() => at("rows").focus());
  }

  async function begin() {
    if (typeof DecompressionStream === "undefined") throw new Error("it has no DecompressionStream");
    [head, columns] = [await unpack("head"), await unpack("columns")];
    fill("variant", head.variants);
    fill("suite", head.suites);
    fill("category", head.categories);
    fill("outcome", Object.values(head.outcomes), Object.keys(head.outcomes));
    fill("doubt", Object.values(head.doubts), Object.keys(head.doubts));
    recall();
    for (const name of FILTERS) at(name).addEventListener("change", () => update());
    let pause;
    at("words").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(update, 250); });
    at("clear").addEventListener("click", () => { for (const name of [...FILTERS, "words"]) at(name).value = ""; update(); });
    at("save").addEventListener("click", save);
    for (const tail of ["", "2"]) {
      at("previous" + tail).addEventListener("click", () => turn(-PAGE));
      at("next" + tail).addEventListener("click", () => turn(PAGE));
    }
    addEventListener("hashchange", () => { recall(); update(true); });
    await update(true);
    document.body.dataset.ready = "yes";
  }

  begin().catch(error => {
    at("broken").hidden = false;
    at("broken").textContent = `This browser cannot open the replies (${error.message}). Try a newer one, or equipoise report RUN --csv FILE.`;
  });
})();
