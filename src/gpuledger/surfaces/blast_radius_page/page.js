// What people touch: fields and sliders for each pool, guardrails, the results, and the address, which holds every input.
"use strict";
(() => {
  const E = BlastRadius;
  const $ = (id) => document.getElementById(id);
  const given = JSON.parse($("model").textContent);
  // Beyond so many draws the page shows a preview at once, and a worker calculates all of them.
  const LIVE = 10000;
  // Key: label, range of its slider, whether it is always shown. Times are seconds, dollars whole.
  const FIELDS = {
    gpus: ["GPUs asked for", 8, 4096, 8, true], price: ["USD an hour", 0.5, 120, 0.05, true],
    max_hours: ["Job limit", 900, 259200, 900, true], detect: ["Time to detect", 60, 172800, 60, true],
    respond: ["Time to respond", 0, 43200, 60, true], look: ["Until someone looks", 3600, 345600, 1800, true],
    per_unit: ["GPUs per instance", 1, 16, 1], quota: ["Quota headroom, GPUs", 0, 4096, 8],
    autoscaler_max: ["Autoscaler maximum, GPUs", 0, 4096, 8], obtainable: ["Obtainable, GPUs", 0, 4096, 8],
    lease_cap: ["Lease cap, GPUs", 0, 1024, 8], lease_usd: ["Dollar lease, USD", 0, 100000, 100],
    idle: ["Paid for anyway, GPUs", 0, 1024, 1], storage_usd: ["Storage, USD once", 0, 20000, 10],
    storage_usd_per_hour: ["Storage, USD an hour", 0, 500, 0.5], egress_usd: ["Egress, USD once", 0, 20000, 10],
    egress_usd_per_hour: ["Egress, USD an hour", 0, 500, 0.5],
  };
  const COUNTS = ["gpus", "per_unit", "quota", "autoscaler_max", "obtainable", "lease_cap", "idle"];
  const PLAIN = ["lease_usd", "idle", "per_unit"]; // certain, so kept beside the inputs
  const NAMES = { idle: "idle_commitment_gpus", per_unit: "gpus_per_instance" };
  const LABELS = { detect: "alert within", respond: "stopped within", max_hours: "job limit", look: "someone looks every", lease_cap: "lease cap, GPUs", lease_usd: "dollar lease", quota_percent: "quota, %", autoscaler_percent: "autoscaler, %" };
  let model, number = 0;

  // ---- the address -------------------------------------------------------------------------------------------
  const texts = (pool) => ({ ...pool.inputs, lease_usd: pool.lease_usd || "", idle: Number(pool.idle) ? String(pool.idle) : "", per_unit: String(pool.per_unit) === "1" ? "" : String(pool.per_unit) });
  const told = (pool) => Object.entries(texts(pool)).filter(([key, text]) => text !== "" && !(pool.kind === "tokens" && COUNTS.includes(key)));
  const limitsOf = (rail) => Object.entries(rail).filter(([key]) => key !== "name").map(([key, limit]) => `${key}=${E.plain(limit, E.UNITS[key])}`);
  const toHash = () => {
    const parts = [["seed", model.seed], ["samples", model.samples]];
    for (const pool of model.pools) parts.push(["pool", [`name=${pool.name}`, `kind=${pool.kind}`, ...told(pool).map(([key, text]) => `${key}=${text}`)].join(";")]);
    for (const rail of model.guardrails ?? []) parts.push(["rail", [`name=${rail.name}`, rail.said].join(";")]);
    return new URLSearchParams(parts.map(([key, text]) => [key, String(text)])).toString();
  };
  const taken = (text) => Object.fromEntries(text.split(";").map((part) => [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)]));
  const written = (rails) => rails?.map((rail) => ({ name: rail.name, said: limitsOf(rail).join(",") })) ?? null;
  const fromHash = (hash) => {
    const found = new URLSearchParams(hash), pools = found.getAll("pool"), rails = found.getAll("rail");
    if (!pools.length) return null;
    return {
      seed: found.get("seed") ?? given.seed, samples: found.get("samples") ?? given.samples,
      guardrails: rails.length ? rails.map((text) => ({ name: taken(text).name ?? "", said: text.slice(text.indexOf(";") + 1) })) : written(given.guardrails),
      pools: pools.map((text) => {
        const { name = "pool", kind, per_unit = "1", lease_usd = "", idle = "", ...rest } = taken(text);
        const inputs = Object.fromEntries(Object.entries(rest).filter(([key]) => Object.hasOwn(FIELDS, key)));
        if (kind === "tokens") inputs.gpus = "1";
        const before = given.pools.find((pool) => pool.name === name), origins = {};
        for (const [key, value] of Object.entries(texts({ inputs, lease_usd, idle, per_unit }))) {
          origins[key] = before && texts(before)[key] === value && (before.origins[key] ?? before.origins[NAMES[key]]) || "this page's address";
        }
        return { name, kind: kind === "tokens" ? "tokens" : "gpu", per_unit, idle, lease_usd, inputs, origins };
      }),
    };
  };

  // ---- fields ------------------------------------------------------------------------------------------------
  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [key, text] of Object.entries(attributes)) made.setAttribute(key, text);
    made.append(...children);
    return made;
  };
  const unitOf = (key) => key === "per_unit" ? "count" : E.UNITS[key];
  const scale = (key) => unitOf(key) === "usd" ? 1e6 : 1;
  const settle = (slider, key, text) => {
    let middle = null;
    try { const { points } = E.parse(text, unitOf(key)); middle = points[points.length === 3 ? 1 : 0] / scale(key); } catch { /* told beside the field */ }
    slider.disabled = middle === null && text !== "";
    if (middle !== null && middle > Number(slider.max)) slider.max = middle;
    slider.value = middle ?? slider.min;
    slider.setAttribute("aria-valuetext", text === "" ? "not given" : text);
  };
  const nameOf = (pool, key) => {
    if (key === "price" && pool.kind === "gpu") return `USD an hour per ${Number(pool.per_unit) > 1 ? `instance (${pool.per_unit} GPUs)` : "GPU"}`;
    return key === "gpus" && Number(pool.per_unit) > 1 ? "GPUs asked for, in all" : FIELDS[key][0];
  };
  const field = (pool, key) => {
    const id = `f${number += 1}`, [, low, high, step] = FIELDS[key], name = nameOf(pool, key);
    const text = element("input", { id, autocomplete: "off", spellcheck: "false", placeholder: " ", "aria-describedby": `${id}e how-${unitOf(key)}`, "data-key": key });
    const slider = element("input", { type: "range", min: low, max: high, step, "aria-label": `${name}, slider` });
    const error = element("span", { class: "error", id: `${id}e` });
    const label = element("label", { for: id }, name);
    if (key === "look") text.setAttribute("list", "gaps");
    text.value = texts(pool)[key] ?? "";
    settle(slider, key, text.value);
    const change = () => {
      const said = text.value.trim();
      if (key === "per_unit") pool.per_unit = said || "1";
      else if (PLAIN.includes(key)) pool[key] = said;
      else if (said === "") delete pool.inputs[key];
      else pool.inputs[key] = said;
      pool.origins[key] = "typed on this page";
      if (key === "per_unit") {
        for (const other of ["price", "gpus"]) {
          const label = document.querySelector(`[data-pool="${model.pools.indexOf(pool)}"] [data-label="${other}"]`);
          if (label) label.textContent = nameOf(pool, other);
        }
      }
      recalculate();
    };
    label.dataset.label = key;
    text.addEventListener("input", () => { settle(slider, key, text.value.trim()); change(); });
    slider.addEventListener("input", () => {
      text.value = E.plain(Math.round(Number(slider.value) * scale(key)), unitOf(key));
      slider.setAttribute("aria-valuetext", text.value);
      change();
    });
    return element("div", { class: "field" }, label, text, slider, error);
  };
  const titled = (pool) => `${pool.kind === "gpu" ? "GPU pool" : "Token pool"}: ${pool.name}`;
  const drawPools = () => {
    $("pools").replaceChildren(...model.pools.map((pool, index) => {
      const keys = Object.keys(FIELDS).filter((key) => pool.kind === "gpu" || !COUNTS.includes(key));
      const id = `f${number += 1}`, name = element("input", { id, autocomplete: "off", maxlength: "60" });
      name.value = pool.name;
      const legend = element("legend", {}, titled(pool));
      const more = element("details", {}, element("summary", {}, "More limits and costs"), ...keys.filter((key) => !FIELDS[key][4]).map((key) => field(pool, key)));
      more.open = keys.some((key) => !FIELDS[key][4] && key !== "per_unit" && texts(pool)[key]);
      const remove = element("button", { type: "button", class: "remove" }, `Remove ${pool.name}`);
      name.addEventListener("input", () => {
        pool.name = name.value.replace(/[;,]/g, "").trim() || "pool";
        legend.textContent = titled(pool);
        remove.textContent = `Remove ${pool.name}`;
        recalculate();
      });
      remove.addEventListener("click", () => { model.pools.splice(model.pools.indexOf(pool), 1); drawPools(); recalculate(); $("add-gpu").focus(); });
      const box = element("fieldset", {}, legend, element("div", { class: "field" }, element("label", { for: id }, "Name"), name),
        ...keys.filter((key) => FIELDS[key][4]).map((key) => field(pool, key)), more, remove);
      box.dataset.pool = String(index);
      return box;
    }));
  };
  const usual = () => written(E.usual(model.pools));
  // The command line separates by commas, the address by semicolons: a name that goes there has neither.
  const tellable = (rails) => { for (const rail of rails) rail.name = rail.name.replace(/[;,]/g, ""); return rails; };
  const drawRails = () => {
    const rails = model.guardrails ?? usual();
    const own = () => { if (!model.guardrails) model.guardrails = tellable(rails); };
    $("rail-list").replaceChildren(...rails.map((rail, index) => {
      const ids = [`f${number += 1}`, `f${number += 1}`];
      const [name, said] = ids.map((id) => element("input", { id, autocomplete: "off", spellcheck: "false" }));
      name.value = rail.name;
      said.value = rail.said;
      said.dataset.rail = String(index);
      said.setAttribute("aria-describedby", `${ids[1]}e how-rail`);
      const remove = element("button", { type: "button", class: "remove", "aria-label": `Remove ${rail.name}` }, "Remove");
      name.addEventListener("input", () => { own(); rail.name = name.value.replace(/[;,]/g, "").trim() || `guardrail ${index + 1}`; remove.ariaLabel = `Remove ${rail.name}`; recalculate(); });
      said.addEventListener("input", () => { own(); rail.said = said.value.trim(); recalculate(); });
      remove.addEventListener("click", () => { own(); model.guardrails = rails.filter((one) => one !== rail); drawRails(); recalculate(); $("add-rail").focus(); });
      return element("div", { class: "rail", role: "group", "aria-label": `Guardrail ${index + 1}` },
        element("label", { for: ids[0] }, "Guardrail"), name, element("label", { for: ids[1] }, "Limits"), said,
        element("span", { class: "error", id: `${ids[1]}e` }), remove);
    }));
    $("usual-rails").hidden = model.guardrails === null;
  };

  // ---- results -----------------------------------------------------------------------------------------------
  const row = (cells, tag = "td") => element("tr", {}, ...cells.map((cell, index) => index ? element(tag, {}, cell) : element("th", { scope: "row" }, cell)));
  const cents = (amount) => E.money(amount).slice(1);
  const chart = (found) => {
    const bins = 40, top = Math.max(found.same.p99 * 1.1, 1), counts = new Array(bins).fill(0);
    for (let i = 0; i < found.losses.length; i += 1) counts[Math.min(bins - 1, Math.floor(found.losses[i] / top * bins))] += 1;
    const most = Math.max(...counts), place = (loss) => Math.min(Math.max(loss / top * 600, 1), 599);
    const bars = counts.map((count, i) => `<rect x="${i * 15 + 1}" y="${130 - count / most * 110}" width="13" height="${count / most * 110}"/>`).join("");
    const marks = [["P50", found.same.p50], ["P90", found.same.p90], ["P99", found.same.p99]]
      .filter(([, loss], i, all) => i === 2 || place(all[i + 1][1]) - place(loss) > 30 && place(all[2][1]) - place(loss) > 30)
      .map(([name, loss]) => `<line x1="${place(loss)}" x2="${place(loss)}" y1="12" y2="130"/><text x="${place(loss)}" y="8" text-anchor="${place(loss) > 500 ? "end" : place(loss) < 30 ? "start" : "middle"}">${name}</text>`).join("");
    const beyond = found.worst > top ? ", draws above it in the last bar" : "";
    const said = `How often each loss is drawn, from nothing to ${E.money(Math.floor(top))}: half are at most ${E.money(found.same.p50)}, nine in ten at most ${E.money(found.same.p90)}, 99 in a hundred at most ${E.money(found.same.p99)}`;
    $("chart").innerHTML = `<svg viewBox="0 -10 600 168" role="img" aria-label="${said}">${bars}${marks}<text x="0" y="150">$0</text><text x="600" y="150" text-anchor="end">${E.money(Math.floor(top))}${beyond}</text></svg>`;
  };
  const quote = (text) => /^[\w.,=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
  const commandLine = () => {
    const pools = model.pools.map((pool) => {
      const price = pool.kind === "tokens" ? "usd_per_hour" : Number(pool.per_unit) > 1 ? "usd_per_instance_hour" : "usd_per_gpu_hour";
      const parts = [`name=${pool.name}`, ...told(pool).map(([key, text]) => `${key === "price" ? price : NAMES[key] ?? key}=${text}`)];
      return `  ${pool.kind === "tokens" ? "--tokens-pool" : "--pool"} ${quote(parts.join(","))}`;
    });
    const rails = (model.guardrails ?? []).map((rail) => `  --guardrail ${quote(`name=${rail.name},${rail.said}`)}`);
    return [`gpuledger blast-radius --seed ${model.seed} --samples ${model.samples}`, ...pools, ...rails].join(" \\\n");
  };
  const show = (found, whole) => {
    const { p50, p99 } = found.same;
    const headline = found.worst === p50
      ? `One mistake costs ${E.money(p50)}.`
      : `One mistake costs up to ${E.money(p99)} in 99 of 100 cases, ${E.money(p50)} in the middle, ${E.money(found.worst)} at worst.`;
    const best = found.guardrails[0];
    $("headline").textContent = headline;
    $("advice").textContent = best && best.removes_p99 > 0 ? `Worth most: ${best.name}. It alone leaves ${E.money(best.left.p99)}.` : "";
    $("bar").textContent = found.worst === p50 ? `Results: ${E.money(p50)}` : `Results: P50 ${E.money(p50)}, P99 ${E.money(p99)}`;
    const losses = (of) => [of.p50, of.p90, of.p99].map(cents);
    const [body, foot] = [$("losses").tBodies[0], $("losses").tFoot];
    body.replaceChildren(...found.pools.map((pool) => row([pool.name, pool.gpus ? E.group(pool.gpus) : "–", E.durationText(pool.seconds), cents(pool.usd_per_hour), ...losses(pool.loss), cents(pool.worst)])));
    foot.replaceChildren(row(["Same mistake", "", "", "", ...losses(found.same), cents(found.worst)]), row(["Independent", "", "", "", ...losses(found.independent), cents(found.worst)]));
    $("rails").tBodies[0].replaceChildren(...found.guardrails.map((rail) => {
      const made = row([rail.name, cents(rail.removes_p99), cents(rail.removes_p50), cents(rail.left.p99)]);
      made.style.setProperty("--part", `${p99 ? Math.round(rail.removes_p99 / p99 * 100) : 0}%`);
      return made;
    }));
    $("together").textContent = found.together ? `All of them together take ${E.money(found.together.removes_p99)} off P99; alone they overlap and don't add up.` : "";
    $("lines").textContent = found.lines.join("\n");
    $("origins").tBodies[0].replaceChildren(...model.pools.flatMap((pool) => told(pool)
      .map(([key, text]) => row([pool.name, nameOf(pool, key), text, pool.origins[key] ?? pool.origins[NAMES[key]] ?? "default"]))));
    $("command").textContent = commandLine();
    chart(found);
    $("basis").textContent = whole ? "" : `A preview from ${E.group(LIVE)} draws; all ${E.group(Number(model.samples))} follow.`;
    announce(`${headline} ${$("advice").textContent}`, whole);
  };
  let speaking = 0;
  const announce = (said, whole) => { // once, when the hand rests: not at each step of a slider
    clearTimeout(speaking);
    if (whole) speaking = setTimeout(() => { $("said").textContent = said; }, 600);
  };
  const complain = (error) => {
    for (const box of document.querySelectorAll("[data-key],[data-rail]")) { box.removeAttribute("aria-invalid"); $(`${box.id}e`).textContent = ""; }
    if (!error) { $("problem").textContent = ""; return; }
    const [name, key] = error.at ?? [];
    const word = name === undefined ? "" : key === "rail" ? `guardrail ${model.guardrails?.[name]?.name ?? ""}: ` : `${name}, ${FIELDS[key]?.[0] ?? key}: `;
    $("problem").textContent = `${word}${error.message}. The results below are of the last good inputs.`;
    const index = model.pools.findIndex((pool) => pool.name === name);
    const box = document.querySelector(key === "rail" ? `[data-rail="${name}"]` : `[data-pool="${index}"] [data-key="${key}"]`);
    if (box) { box.setAttribute("aria-invalid", "true"); $(`${box.id}e`).textContent = error.message; }
  };
  const whole = (text, low, high, name) => {
    const found = /^[0-9]{1,16}$/.test(String(text).trim()) ? Number(text) : NaN;
    if (!(found >= low && found <= high)) throw new Error(`${name} is no whole number from ${low} to ${high}`);
    return found;
  };
  const railOf = ({ name, said }, index) => {
    try { return E.rail(name, said); } catch (error) { throw Object.assign(error, { at: [index, "rail"] }); }
  };
  const ready = () => ({
    seed: whole(model.seed, 0, Number.MAX_SAFE_INTEGER, "the seed"), samples: whole(model.samples, 100, 200000, "the number of draws"),
    guardrails: model.guardrails === null ? null : model.guardrails.map(railOf),
    pools: model.pools.map((pool) => {
      const plain = (key, text, low) => {
        try {
          const found = E.value(text, unitOf(key));
          if (found < low || key === "per_unit" && found > 1024) throw new Error(`no whole number from ${low} to 1024`);
          return found;
        } catch (error) { throw Object.assign(error, { at: [pool.name, key] }); }
      };
      if (pool.lease_usd) plain("lease_usd", pool.lease_usd, 0);
      return { ...pool, idle: plain("idle", String(pool.idle || 0), 0), per_unit: plain("per_unit", String(pool.per_unit), 1) };
    }),
  });

  // ---- recalculation -----------------------------------------------------------------------------------------
  let waiting = 0, resting = 0, worker = null, asked = 0;
  const settled = (found, began, is) => {
    show(found, is);
    const took = performance.now() - began;
    $("took").textContent = `Calculated and shown in ${took.toFixed(0)} ms.`;
    Object.assign(document.documentElement.dataset, { took: took.toFixed(1), settled: String(is) });
    $("results").parentElement.setAttribute("aria-busy", String(!is));
  };
  const calculateAll = (inputs) => {
    const began = performance.now(), mine = asked;
    const done = (found) => { if (mine === asked) settled(found, began, true); };
    if (worker === null) {
      try {
        const source = `${$("engine").textContent}\nonmessage = ({ data }) => postMessage([data[0], BlastRadius.assess(data[1])]);`;
        worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
      } catch { worker = undefined; } // not allowed here: then on this thread
    }
    if (worker === undefined) { done(E.assess(inputs)); return; }
    worker.onmessage = ({ data }) => { if (data[0] === mine) done(data[1]); };
    worker.onerror = () => { worker = undefined; done(E.assess(inputs)); };
    worker.postMessage([mine, inputs]);
  };
  const recalculate = () => {
    const began = performance.now();
    asked += 1;
    clearTimeout(resting);
    try {
      const inputs = ready(), all = inputs.samples <= LIVE;
      const found = E.assess(all ? inputs : { ...inputs, samples: LIVE });
      complain(null);
      settled(found, began, all);
      if (!all) resting = setTimeout(() => calculateAll(inputs), 200);
    } catch (error) { complain(error); }
    if (model.guardrails === null && $("rail-list").dataset.of !== JSON.stringify(usual())) {
      $("rail-list").dataset.of = JSON.stringify(usual());
      drawRails();
    }
    clearTimeout(waiting); // browsers limit how often the address may change
    waiting = setTimeout(() => history.replaceState(null, "", `#${toHash()}`), 150);
  };
  const start = () => {
    model = fromHash(location.hash.slice(1)) ?? { ...structuredClone(given), guardrails: written(given.guardrails) };
    $("seed").value = model.seed;
    $("samples").value = model.samples;
    drawPools();
    drawRails();
    recalculate();
  };
  const add = (kind) => {
    const names = new Set(model.pools.map((pool) => pool.name));
    let name = kind, next = 2;
    while (names.has(name)) { name = `${kind}-${next}`; next += 1; }
    const inputs = kind === "gpu" ? { gpus: "8", price: "4.05", max_hours: "11h" } : { gpus: "1", price: "100", max_hours: "11h" };
    model.pools.push({ name, kind, per_unit: "1", idle: "", lease_usd: "", inputs, origins: Object.fromEntries(Object.keys(inputs).map((key) => [key, "this page's example"])) });
    drawPools();
    recalculate();
    $("pools").lastElementChild.querySelector("input").focus();
  };
  const copy = async (button, text) => {
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Can't copy here: mark the text instead"; }
  };
  $("add-gpu").addEventListener("click", () => add("gpu"));
  $("add-tokens").addEventListener("click", () => add("tokens"));
  $("add-rail").addEventListener("click", () => {
    model.guardrails = [...model.guardrails ?? tellable(usual()), { name: "page within 5 min", said: "detect=5m,respond=10m" }];
    drawRails();
    recalculate();
    $("rail-list").lastElementChild.querySelector("input").focus();
  });
  $("usual-rails").addEventListener("click", () => { model.guardrails = null; drawRails(); recalculate(); $("add-rail").focus(); });
  $("copy-command").addEventListener("click", () => copy($("copy-command"), commandLine()));
  $("copy-link").addEventListener("click", () => copy($("copy-link"), `${location.href.split("#")[0]}#${toHash()}`));
  $("print").addEventListener("click", () => window.print());
  for (const key of ["seed", "samples"]) $(key).addEventListener("input", () => { model[key] = $(key).value; recalculate(); });
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("rail-limits").textContent = Object.entries(LABELS).map(([key, words]) => `${key} (${words})`).join(", ");
  window.addEventListener("hashchange", start);
  start();
})();
