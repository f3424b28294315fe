// What people touch: fields and sliders for each pool, the results, and the address, which holds every input.
"use strict";
(() => {
  const E = BlastRadius;
  const $ = (id) => document.getElementById(id);
  const given = JSON.parse($("model").textContent);
  // Key: label, range of its slider, whether it is always shown. Times are seconds, dollars whole.
  const FIELDS = {
    gpus: ["GPUs asked for", 8, 4096, 8, true], price: ["USD an hour", 0.5, 120, 0.05, true],
    max_hours: ["Job limit", 900, 259200, 900, true], detect: ["Time to detect", 60, 172800, 60, true],
    respond: ["Time to respond", 0, 43200, 60, true], look: ["Until someone looks", 3600, 345600, 1800, true],
    quota: ["Quota headroom, GPUs", 0, 4096, 8], autoscaler_max: ["Autoscaler maximum, GPUs", 0, 4096, 8],
    obtainable: ["Obtainable, GPUs", 0, 4096, 8], lease_cap: ["Lease cap, GPUs", 0, 1024, 8],
    lease_usd: ["Dollar lease, USD", 0, 100000, 100], idle: ["Idle commitments, GPUs", 0, 1024, 1],
    storage_usd: ["Storage, USD", 0, 20000, 10], egress_usd: ["Egress, USD", 0, 20000, 10],
  };
  const COUNTS = ["gpus", "quota", "autoscaler_max", "obtainable", "lease_cap", "idle"];
  const NAMES = { price: "usd_per_gpu_hour", idle: "idle_commitment_gpus" };
  let model, number = 0;

  // ---- the address -------------------------------------------------------------------------------------------
  const texts = (pool) => ({ ...pool.inputs, lease_usd: pool.lease_usd || "", idle: pool.idle ? String(pool.idle) : "" });
  const toHash = () => {
    const parts = [["seed", model.seed], ["samples", model.samples]];
    for (const pool of model.pools) {
      const said = Object.entries(texts(pool)).filter(([, text]) => text !== "").map(([key, text]) => `${key}=${text}`);
      parts.push(["pool", [`name=${pool.name}`, `kind=${pool.kind}`, `per_unit=${pool.per_unit}`, ...said].join(";")]);
    }
    return new URLSearchParams(parts.map(([key, text]) => [key, String(text)])).toString();
  };
  const fromHash = (hash) => {
    const found = new URLSearchParams(hash), pools = found.getAll("pool");
    if (!pools.length) return null;
    return {
      seed: found.get("seed") ?? given.seed, samples: found.get("samples") ?? given.samples,
      guardrails: given.guardrails,
      pools: pools.map((text) => {
        const said = Object.fromEntries(text.split(";").map((part) => [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)]));
        const { name = "pool", kind, per_unit: size, lease_usd: lease = "", idle = "", ...rest } = said;
        const inputs = Object.fromEntries(Object.entries(rest).filter(([key]) => Object.hasOwn(FIELDS, key)));
        const before = given.pools.find((pool) => pool.name === name);
        const origins = {};
        for (const [key, value] of Object.entries(texts({ inputs, lease_usd: lease, idle }))) {
          origins[key] = before && texts(before)[key] === value && before.origins[key] || "this page's address";
        }
        return { name, kind: kind === "tokens" ? "tokens" : "gpu", per_unit: /^[1-9][0-9]{0,3}$/.test(size) ? Number(size) : 1, idle, lease_usd: lease, inputs, origins };
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
  const unitOf = (key) => E.UNITS[key];
  const scale = (key) => unitOf(key) === "usd" ? 1e6 : 1;
  const settle = (slider, key, text) => {
    let middle = null;
    try { const { points } = E.parse(text, unitOf(key)); middle = points[points.length === 3 ? 1 : 0] / scale(key); } catch { /* told beside the field */ }
    slider.disabled = middle === null && text !== "";
    if (middle !== null) {
      if (middle > Number(slider.max)) slider.max = middle;
      slider.value = middle;
      slider.setAttribute("aria-valuetext", text);
    } else slider.setAttribute("aria-valuetext", "not given");
  };
  const field = (pool, key) => {
    const id = `f${number += 1}`, [label, low, high, step] = FIELDS[key];
    const name = key === "price" && pool.kind === "gpu" ? `USD an hour per ${pool.per_unit > 1 ? `instance (${pool.per_unit} GPUs)` : "GPU"}` : label;
    const text = element("input", { id, autocomplete: "off", spellcheck: "false", "aria-describedby": `${id}e h-how`, "data-key": key });
    const slider = element("input", { type: "range", min: low, max: high, step, "aria-label": `${name}, slider` });
    const error = element("span", { class: "error", id: `${id}e` });
    text.value = texts(pool)[key] ?? "";
    settle(slider, key, text.value);
    const change = () => {
      if (key === "lease_usd" || key === "idle") pool[key] = text.value.trim();
      else if (text.value.trim() === "") delete pool.inputs[key];
      else pool.inputs[key] = text.value.trim();
      pool.origins[key] = "typed on this page";
      recalculate();
    };
    text.addEventListener("input", () => { settle(slider, key, text.value.trim()); change(); });
    slider.addEventListener("input", () => {
      text.value = E.plain(Math.round(Number(slider.value) * scale(key)), unitOf(key));
      slider.setAttribute("aria-valuetext", text.value);
      change();
    });
    return element("div", { class: "field" }, element("label", { for: id }, name), text, slider, error);
  };
  const drawPools = () => {
    $("pools").replaceChildren(...model.pools.map((pool) => {
      const keys = Object.keys(FIELDS).filter((key) => pool.kind === "gpu" || !COUNTS.includes(key));
      const name = element("input", { autocomplete: "off", "aria-label": "Name of the pool", maxlength: "60" });
      name.value = pool.name;
      const legend = element("legend", {}, pool.kind === "gpu" ? "GPU pool" : "Token pool");
      name.addEventListener("input", () => { pool.name = name.value.replace(/[;,]/g, "").trim() || "pool"; recalculate(); });
      const more = element("details", {}, element("summary", {}, "More limits and costs"), ...keys.filter((key) => !FIELDS[key][4]).map((key) => field(pool, key)));
      more.open = keys.some((key) => !FIELDS[key][4] && texts(pool)[key]);
      const remove = element("button", { type: "button", class: "remove" }, `Remove ${pool.name}`);
      remove.addEventListener("click", () => { model.pools.splice(model.pools.indexOf(pool), 1); drawPools(); recalculate(); $("add-gpu").focus(); });
      const box = element("fieldset", {}, legend, element("div", { class: "field" }, element("span", {}, "Name"), name),
        ...keys.filter((key) => FIELDS[key][4]).map((key) => field(pool, key)), more, remove);
      box.dataset.pool = String(model.pools.indexOf(pool));
      return box;
    }));
  };

  // ---- results -----------------------------------------------------------------------------------------------
  const row = (cells, tag = "td") => element("tr", {}, ...cells.map((cell, index) => index ? element(tag, {}, cell) : element("th", { scope: "row" }, cell)));
  const cents = (amount) => E.money(amount).slice(1);
  const chart = (found) => {
    const bins = 40, top = Math.max(found.same.p99 * 1.1, 1), counts = new Array(bins).fill(0);
    for (const loss of found.losses) counts[Math.min(bins - 1, Math.floor(loss / top * bins))] += 1;
    const most = Math.max(...counts), place = (loss) => Math.min(Math.max(loss / top * 600, 1), 599);
    const bars = counts.map((count, i) => `<rect x="${i * 15 + 1}" y="${130 - count / most * 110}" width="13" height="${count / most * 110}"/>`).join("");
    const marks = [["P50", found.same.p50], ["P90", found.same.p90], ["P99", found.same.p99]]
      .filter(([, loss], i, all) => i === 0 || loss !== all[i - 1][1])
      .map(([name, loss]) => `<line x1="${place(loss)}" x2="${place(loss)}" y1="14" y2="130"/><text x="${place(loss)}" y="11" text-anchor="${place(loss) > 500 ? "end" : "middle"}">${name}</text>`).join("");
    $("chart").innerHTML = `<svg viewBox="0 0 600 150" role="img" aria-label="How often each loss is drawn, from 0 to ${E.money(top)}; the table below has the figures">${bars}${marks}<text x="0" y="146">$0</text><text x="600" y="146" text-anchor="end">${E.money(Math.floor(top))}, draws above it in the last bar</text></svg>`;
  };
  const quote = (text) => /^[\w.,=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
  const commandLine = () => model.pools.reduce((words, pool) => {
    const said = Object.entries(texts(pool)).filter(([key, text]) => text !== "" && !(pool.kind === "tokens" && key === "gpus"));
    const names = { ...NAMES, price: pool.kind === "tokens" ? "usd_per_hour" : pool.per_unit > 1 ? "usd_per_instance_hour" : "usd_per_gpu_hour" };
    const parts = [`name=${pool.name}`, ...pool.per_unit > 1 ? [`gpus_per_instance=${pool.per_unit}`] : [], ...said.map(([key, text]) => `${names[key] ?? key}=${text}`)];
    return [...words, `  ${pool.kind === "tokens" ? "--tokens-pool" : "--pool"} ${quote(parts.join(","))}`];
  }, [`gpuledger blast-radius --seed ${model.seed} --samples ${model.samples}`]).join(" \\\n");
  const show = (found) => {
    $("headline").textContent = `One mistake costs up to ${E.money(found.same.p99)} in 99 of 100 cases, ${E.money(found.same.p50)} in the middle, ${E.money(found.worst)} at worst.`;
    const losses = (of) => [of.p50, of.p90, of.p99].map(cents);
    const [body, foot] = [$("losses").tBodies[0], $("losses").tFoot];
    body.replaceChildren(...found.pools.map((pool) => row([pool.name, pool.gpus ? E.group(pool.gpus) : "–", E.durationText(pool.seconds), cents(pool.usd_per_hour), ...losses(pool.loss), cents(pool.worst)])));
    foot.replaceChildren(row(["Same mistake", "", "", "", ...losses(found.same), cents(found.worst)]), row(["Independent", "", "", "", ...losses(found.independent), cents(found.worst)]));
    $("rails").tBodies[0].replaceChildren(...found.guardrails.map((rail) => row([rail.name, cents(rail.removes_p99), cents(rail.removes_p50), cents(rail.left.p99)])));
    $("together").textContent = found.together ? `All of them together take ${E.money(found.together.removes_p99)} off P99; alone they overlap and don't add up.` : "";
    $("lines").textContent = found.lines.join("\n");
    $("origins").tBodies[0].replaceChildren(...model.pools.flatMap((pool) => Object.entries(texts(pool)).filter(([key, text]) => text !== "" && !(pool.kind === "tokens" && key === "gpus"))
      .map(([key, text]) => row([pool.name, FIELDS[key][0], text, pool.origins[key] ?? pool.origins[NAMES[key]] ?? "default"]))));
    $("command").textContent = commandLine();
    chart(found);
  };
  const complain = (error) => {
    for (const box of document.querySelectorAll("[data-key]")) { box.removeAttribute("aria-invalid"); document.getElementById(`${box.id}e`).textContent = ""; }
    if (!error) { $("problem").textContent = ""; return; }
    const [name, key] = error.at ?? [];
    $("problem").textContent = `${name ? `${name}, ${FIELDS[key]?.[0] ?? key}: ` : ""}${error.message}. The results below are of the last good inputs.`;
    const index = model.pools.findIndex((pool) => pool.name === name);
    const box = document.querySelector(`[data-pool="${index}"] [data-key="${key}"]`);
    if (box) { box.setAttribute("aria-invalid", "true"); document.getElementById(`${box.id}e`).textContent = error.message; }
  };
  const whole = (text, low, high, name) => {
    const found = /^[0-9]{1,16}$/.test(String(text).trim()) ? Number(text) : NaN;
    if (!(found >= low && found <= high)) throw new Error(`${name} is no whole number from ${low} to ${high}`);
    return found;
  };
  const ready = () => ({
    seed: whole(model.seed, 0, Number.MAX_SAFE_INTEGER, "the seed"), samples: whole(model.samples, 100, 200000, "the number of draws"), guardrails: model.guardrails,
    pools: model.pools.map((pool) => {
      for (const key of ["idle", "lease_usd"]) {
        try { if (pool[key]) E.value(String(pool[key]), unitOf(key)); } catch (error) { throw Object.assign(error, { at: [pool.name, key] }); }
      }
      return { ...pool, idle: pool.idle ? E.value(String(pool.idle), "count") : 0 };
    }),
  });
  let waiting = 0;
  const recalculate = () => {
    const began = performance.now();
    try {
      const found = E.assess(ready());
      const took = performance.now() - began;
      complain(null);
      show(found);
      $("took").textContent = `Calculated in ${took.toFixed(1)} ms.`;
      document.documentElement.dataset.took = took.toFixed(1);
    } catch (error) { complain(error); }
    clearTimeout(waiting); // browsers limit how often the address may change
    waiting = setTimeout(() => history.replaceState(null, "", `#${toHash()}`), 150);
  };
  const start = () => {
    model = fromHash(location.hash.slice(1)) ?? structuredClone(given);
    $("seed").value = model.seed;
    $("samples").value = model.samples;
    drawPools();
    recalculate();
  };
  const add = (kind) => {
    const names = new Set(model.pools.map((pool) => pool.name));
    let name = kind, next = 2;
    while (names.has(name)) { name = `${kind}-${next}`; next += 1; }
    const inputs = kind === "gpu" ? { gpus: "8", price: "4.05", max_hours: "11h" } : { gpus: "1", price: "100", max_hours: "11h" };
    model.pools.push({ name, kind, per_unit: 1, idle: "", lease_usd: "", inputs, origins: Object.fromEntries(Object.keys(inputs).map((key) => [key, "this page's example"])) });
    drawPools();
    recalculate();
    $("pools").lastElementChild.querySelector("input").focus();
  };
  $("add-gpu").addEventListener("click", () => add("gpu"));
  $("add-tokens").addEventListener("click", () => add("tokens"));
  for (const key of ["seed", "samples"]) $(key).addEventListener("input", () => { model[key] = $(key).value; recalculate(); });
  $("form").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", start);
  start();
})();
