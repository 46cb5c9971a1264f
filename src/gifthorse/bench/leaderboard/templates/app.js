"use strict";
(() => {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const rows = payload.rows.map((values, index) => {
    const row = { page: payload.pages[index], remarks: payload.remarks[index] };
    payload.columns.forEach((name, at) => { row[name] = values[at]; });
    return row;
  });
  const $ = (id) => document.getElementById(id);
  const state = { text: "", data: "", seed: "", metric: "asr", sort: "attack_label", down: false };
  const HELP = {
    asr: "Attack success rate: triggered pictures that become what the attacker wants. Lower is better for the defender.",
    ra: "Robust accuracy: triggered pictures that are named right all the same. Higher is better.",
    ca: "Clean accuracy: what the repair costs in ordinary use. Higher is better.",
    der: "Defence effectiveness: 1 is an attack removed at no cost, 0.5 is nothing gained. Higher is better.",
  };
  const CLEAN = "clean twin";

  // Everything from the ledger goes in as text, never as markup.
  const make = (tag, text, name) => {
    const item = document.createElement(tag);
    if (text !== undefined && text !== null) item.textContent = text;
    if (name) item.className = name;
    return item;
  };
  const per = (value) => (value === null ? "–" : (100 * value).toFixed(1));
  const number = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));
  const mean = (list, key) => {
    const found = list.map((row) => row[key]).filter((value) => value !== null);
    return found.length ? found.reduce((a, b) => a + b, 0) / found.length : null;
  };
  const parts = (label) => {
    const at = label.indexOf(" (");
    return at < 0 ? [label, ""] : [label.slice(0, at), label.slice(at + 2, -1).replaceAll("=", " ")];
  };
  const named = (tag, label) => {
    const [name, options] = parts(label);
    const item = make(tag, name.replaceAll("_", " "));
    if (options) item.append(make("small", options));
    return item;
  };

  const chosen = () => rows.filter((row) => {
    if (state.data && row.data !== state.data) return false;
    if (state.seed !== "" && String(row.seed) !== state.seed) return false;
    if (!state.text) return true;
    const all = [row.attack_label, row.defence_label, row.role, row.verdict, row.status, ...row.remarks];
    const text = all.join(" ").toLowerCase();
    return state.text.split(/\s+/).every((word) => text.includes(word));
  });
  const order = (labels) =>
    [...new Set(labels)].sort((a, b) => (a === CLEAN) - (b === CLEAN) || a.localeCompare(b));

  function matrix(table, list, role, fill) {
    table.replaceChildren();
    const wanted = list.filter((row) => row.role === role || (role === "repair" && row.role === "none"));
    const attacks = order(wanted.map((row) => row.attack_label));
    const defences = [...new Set(wanted.map((row) => row.defence_label))]
      .sort((a, b) => (b === "none") - (a === "none") || a.localeCompare(b));
    const section = table.closest("section");
    section.classList.toggle("gone", !defences.length);
    const head = make("tr");
    head.append(make("th", "attack"));
    for (const defence of defences) {
      const cell = named("th", defence === "none" ? "no defence" : defence);
      cell.scope = "col";
      head.append(cell);
    }
    const body = make("tbody");
    for (const attack of attacks) {
      const line = make("tr", null, attack === CLEAN ? "clean" : "");
      const title = named("th", attack);
      title.scope = "row";
      line.append(title);
      for (const defence of defences) {
        const trials = wanted.filter((r) => r.attack_label === attack && r.defence_label === defence);
        const cell = make("td");
        if (trials.length) {
          const button = make("button");
          button.type = "button";
          fill(button, trials, attack);
          button.addEventListener("click", () => open(attack, defence, trials));
          cell.append(button);
        }
        line.append(cell);
      }
      body.append(line);
    }
    const top = make("thead");
    top.append(head);
    table.append(top, body);
  }

  function colour(button, badness) {
    if (badness === null) button.classList.add("blank");
    else button.style.setProperty("--v", String(Math.round(100 * Math.min(1, Math.max(0, badness)))));
  }
  function remarkOf(button, trials) {
    const hidden = new Set(["false alarm", "weak attack"]);
    const kinds = [...new Set(trials.flatMap((row) => row.remarks))].filter((kind) => !hidden.has(kind));
    if (kinds.length) button.append(make("span", kinds.join(", "), "mark"));
  }

  function repairCell(button, trials, attack) {
    const metric = attack === CLEAN ? "ca" : state.metric;
    const value = mean(trials, metric);
    const without = trials.filter((row) => row.status !== "done").length;
    if (value === null) {
      button.append(make("b", "–"));
      const why = trials.some((row) => row.status === "failed") ? "failed" : without ? "no result" : "";
      if (why) button.append(make("small", why));
      colour(button, null);
      return;
    }
    button.append(make("b", metric === "der" ? number(value, 2) : per(value)));
    const others = ["ca", "asr", "ra"].filter((name) => name !== metric && mean(trials, name) !== null);
    const rest = others.map((name) => `${name.toUpperCase()} ${per(mean(trials, name))}`).join(" · ");
    button.append(make("small", attack === CLEAN ? "CA" : rest));
    if (without) button.append(make("small", `${without} of ${trials.length} without result`));
    if (metric === "asr") colour(button, value);
    else if (metric === "der") colour(button, 2 * (1 - value));
    else {
      const best = Math.max(...rows.map((row) => row.ca ?? 0), 0.01);
      colour(button, metric === "ca" ? 4 * (1 - value / best) : 1 - value / best);
    }
    remarkOf(button, trials);
  }

  function detectorCell(button, trials, attack) {
    const judged = trials.filter((row) => row.verdict === "FLAGGED" || row.verdict === "CLEAR");
    if (!judged.length) {
      button.append(make("b", "–"), make("small", trials.some((r) => r.status === "failed") ? "failed" : "no result"));
      colour(button, null);
      return;
    }
    const flagged = judged.filter((row) => row.verdict === "FLAGGED").length;
    button.append(make("b", `${flagged} / ${judged.length}`));
    const auc = mean(judged, "auc");
    const ranks = judged.map((row) => row.target_rank).filter((rank) => rank !== null);
    const firsts = ranks.filter((rank) => rank === 1).length;
    if (attack === CLEAN) button.append(make("small", flagged ? "false alarms" : "no false alarm"));
    else if (auc !== null) button.append(make("small", `AUC ${number(auc, 2)}`));
    else if (ranks.length) button.append(make("small", `target first ${firsts} / ${ranks.length}`));
    else button.append(make("small", "flagged"));
    const share = flagged / judged.length;
    colour(button, attack === CLEAN ? share : 1 - share);
  }

  function track(name, row, key) {
    const value = row[key];
    const item = make("div", null, "track");
    item.append(make("span", name));
    const rail = make("div", null, "rail");
    if (value !== null) {
      const bar = make("i");
      bar.style.width = `${100 * value}%`;
      const range = make("u");
      range.style.left = `${100 * row[`${key}_low`]}%`;
      range.style.width = `${100 * (row[`${key}_high`] - row[`${key}_low`])}%`;
      rail.append(bar, range);
      const before = row[`${key}_before`];
      if (before !== null && before !== undefined) {
        const was = make("s");
        was.style.left = `${100 * before}%`;
        was.title = `before: ${per(before)} %`;
        rail.append(was);
      }
    }
    const digits = (v) => (key === "der" || key === "auc" ? number(v, 2) : per(v));
    const range = value === null ? "" : ` [${digits(row[`${key}_low`])}, ${digits(row[`${key}_high`])}]`;
    item.append(rail, make("span", digits(value) + range));
    return item;
  }

  function open(attack, defence, trials) {
    const title = $("cell-title");
    title.replaceChildren(parts(attack)[0].replaceAll("_", " "), " ", make("span", "×", "times"), " ",
      defence === "none" ? "no defence" : parts(defence)[0].replaceAll("_", " "));
    const body = $("cell-body");
    body.replaceChildren();
    for (const row of trials) {
      const part = make("div", null, "seed");
      const head = make("h3", `Seed ${row.seed}`);
      const link = make("a", "Pictures, curves, specification →");
      link.href = row.page;
      head.append(link);
      part.append(head);
      if (row.status !== "done") part.append(make("p", `${row.status === "failed" ? "Failed" : "No result"}: ${row.reason}`, "help"));
      for (const [key, name] of [["ca", "CA"], ["asr", "ASR"], ["ra", "RA"], ["der", "DER"], ["auc", "AUC"]])
        if (row[key] !== null) part.append(track(name, row, key));
      if (row.verdict) {
        const p = row.p_value < 0.001 ? row.p_value.toExponential(1) : number(row.p_value);
        part.append(make("p", `${row.verdict}: statistic ${number(row.statistic, 2)}, threshold ${number(row.threshold, 2)}, p = ${p}` +
          (row.target_rank ? `; the planted class is number ${row.target_rank}` : "")));
      }
      if (row.accepted === false) part.append(make("p", "A user's audit would have refused this repair.", "help"));
      if (row.remarks.length) part.append(make("p", row.remarks.join(", "), "help"));
      body.append(part);
    }
    $("cell").showModal();
  }

  const LIST = [
    ["attack_label", "Attack", "t"], ["defence_label", "Defence", "t"], ["seed", "Seed", "n"], ["ca", "CA", "p"],
    ["asr", "ASR", "p"], ["ra", "RA", "p"], ["der", "DER", "d"], ["verdict", "Verdict", "s"], ["auc", "AUC", "d"],
    ["seconds", "Seconds", "d"],
  ];
  function trials(list) {
    const table = $("trials");
    const head = make("tr");
    for (const [key, name, kind] of LIST) {
      const cell = make("th", null, kind === "t" ? "wide-text" : "");
      cell.scope = "col";
      if (key === state.sort) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      const button = make("button", name);
      button.type = "button";
      button.dataset.column = key;
      button.addEventListener("click", () => {
        state.down = state.sort === key ? !state.down : kind !== "t" && kind !== "s";
        state.sort = key;
        trials(chosen());
        table.querySelector(`[data-column="${key}"]`).focus();
      });
      cell.append(button);
      head.append(cell);
    }
    const sorted = [...list].sort((one, two) => {
      const [a, b] = [one[state.sort], two[state.sort]];
      const empty = (value) => value === null || value === "";
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      const sign = typeof a === "number" ? a - b : String(a).localeCompare(String(b));
      return state.down ? -sign : sign;
    });
    const body = make("tbody");
    for (const row of sorted) {
      const line = make("tr");
      for (const [key, , kind] of LIST) {
        const value = row[key];
        const cell = make("td", null, kind === "t" ? "wide-text" : kind === "s" ? "" : "n");
        if (key === "attack_label") {
          const link = make("a", value);
          link.href = row.page;
          cell.append(link);
        } else if (key === "verdict") cell.textContent = value || (row.status === "done" ? "" : row.status.replace("_", " "));
        else if (kind === "p") cell.textContent = per(value);
        else if (kind === "d") cell.textContent = number(value, 2);
        else cell.textContent = value;
        line.append(cell);
      }
      body.append(line);
    }
    const top = make("thead");
    top.append(head);
    table.replaceChildren(top, body);
    $("shown").textContent = `${list.length} of ${rows.length} trials.`;
  }

  function draw() {
    const list = chosen();
    $("metric-help").textContent = HELP[state.metric];
    matrix($("repairs"), list, "repair", repairCell);
    matrix($("detectors"), list, "detector", detectorCell);
    trials(list);
  }
  function choices(select, values) {
    for (const value of [...new Set(values)]) {
      const item = make("option", value);
      item.value = value;
      select.append(item);
    }
  }
  choices($("data"), rows.map((row) => row.data));
  choices($("seed"), rows.map((row) => row.seed).sort((a, b) => a - b));
  $("data-choice").classList.toggle("gone", new Set(rows.map((row) => row.data)).size < 2);
  $("filter").addEventListener("input", (event) => { state.text = event.target.value.trim().toLowerCase(); draw(); });
  $("data").addEventListener("change", (event) => { state.data = event.target.value; draw(); });
  $("seed").addEventListener("change", (event) => { state.seed = event.target.value; draw(); });
  $("metrics").addEventListener("change", (event) => { state.metric = event.target.value; draw(); });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("close").addEventListener("click", () => $("cell").close());
  $("cell").addEventListener("click", (event) => { if (event.target === $("cell")) $("cell").close(); });
  draw();
})();
