// The browser's twin of gpuledger's core/draws.py, core/blast_radius.py and core/blast_lines.py.
// Every number is a whole number of seconds, cards or millionths of a dollar, exact below 2^53; draws use + - * / and
// Math.sqrt on doubles in the same order as Python does. Change both or neither: a test compares them.
"use strict";
const BlastRadius = (() => {
  const MICRO = 1e6, HOUR = 3600, LIMIT = 5e15;
  const COUNTS = ["gpus", "quota", "autoscaler_max", "obtainable", "lease_cap"];
  const UNITS = {
    gpus: "count", quota: "count", autoscaler_max: "count", obtainable: "count", lease_cap: "count", idle: "count",
    max_hours: "hours", detect: "duration", respond: "duration", look: "duration",
    storage_usd: "usd", egress_usd: "usd", storage_usd_per_hour: "usd", egress_usd_per_hour: "usd", price: "usd", lease_usd: "usd",
    quota_percent: "count", autoscaler_percent: "count",
  };
  const RATES = ["storage_usd_per_hour", "egress_usd_per_hour"], SUMS = ["storage_usd", "egress_usd"];
  const MOST_AN_HOUR = 1e11;
  const CEILING = { duration: 31622400, hours: 31622400, count: 1e6, usd: 1e14 };
  const WANTED = {
    duration: "a time such as 15m, 2h or 1h30m", hours: "hours such as 11 or 90m",
    count: "a whole number of 0 or more", usd: "dollars of 0 or more, at most 6 decimals",
  };
  const P90 = 1.2815515655446004, P999 = 3.090232306167813, LN2 = 0.6931471805599453, TAIL = 0.02425;
  const A = [-3.969683028665376e1, 2.209460984245205e2, -2.759285104469687e2, 1.383577518672690e2, -3.066479806614716e1, 2.506628277459239];
  const B = [-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1, 1];
  const C = [-7.784894002430293e-3, -3.223964580411365e-1, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783];
  const D = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1];

  const EXP = []; // 1 / n!, the highest first
  for (let n = 0, factorial = 1; n <= 14; n += 1, factorial *= n) EXP.unshift(1 / factorial);
  const POWERS = Float64Array.from({ length: 321 }, (_, place) => 2 ** (place - 160)); // whole powers are exact

  // ---- draws -------------------------------------------------------------------------------------------------
  const polynomial = (coefficients, x) => {
    let found = 0;
    for (let i = 0; i < coefficients.length; i += 1) found = found * x + coefficients[i];
    return found;
  };
  const ln = (x) => {
    let halvings = 0;
    while (x > 1.5) { x /= 2; halvings += 1; }
    while (x <= 0.75) { x *= 2; halvings -= 1; }
    const y = (x - 1) / (x + 1), square = y * y;
    let series = 0;
    for (let odd = 23; odd > 0; odd -= 2) series = series * square + 1 / odd;
    return 2 * y * series + halvings * LN2;
  };
  const exp = (x) => {
    const doublings = Math.floor(x / LN2 + 0.5);
    return polynomial(EXP, x - doublings * LN2) * POWERS[doublings + 160];
  };
  const normalQuantile = (share) => {
    if (share < TAIL) { const q = Math.sqrt(-2 * ln(share)); return polynomial(C, q) / polynomial(D, q); }
    if (share > 1 - TAIL) { const q = Math.sqrt(-2 * ln(1 - share)); return -(polynomial(C, q) / polynomial(D, q)); }
    const q = share - 0.5, square = q * q;
    return polynomial(A, square) * q / polynomial(B, square);
  };
  const isFixed = (dist) => Math.min(...dist.points) === Math.max(...dist.points);
  const at = ([median, p90], z) => Math.floor(median * exp(z * (ln(p90 / median) / P90)) + 0.5);
  const highest = (dist) => dist.shape === "lognormal" ? at(dist.points, P999) : dist.points[dist.points.length - 1];
  const inverse = (dist) => {
    if (dist.shape === "uniform") {
      const [low, high] = dist.points;
      return (share) => Math.floor(low + share * (high - low) + 0.5);
    }
    if (dist.shape === "triangular") {
      const [low, mode, high] = dist.points, width = high - low;
      return (share) => share < (mode - low) / width
        ? Math.floor(low + Math.sqrt(share * width * (mode - low)) + 0.5)
        : Math.floor(high - Math.sqrt((1 - share) * width * (high - mode)) + 0.5);
    }
    const top = highest(dist), [median, p90] = dist.points, spread = ln(p90 / median) / P90;
    return (share) => Math.min(Math.floor(median * exp(normalQuantile(share) * spread) + 0.5), top);
  };
  const mix = (x) => {
    x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
    x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
    return (x ^ (x >>> 16)) >>> 0;
  };
  const streamKey = (name) => {
    let key = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(name)) key = Math.imul(key ^ byte, 0x01000193);
    return mix(key);
  };
  const shares = (name, count) => {
    const found = new Float64Array(count);
    let key = streamKey(name);
    for (let i = 0; i < count; i += 1) {
      found[i] = (mix(key) + 0.5) / 4294967296;
      key = (key + 0x9e3779b9) | 0;
    }
    return found;
  };
  // Moving one slider draws only that input anew. What is kept is bounded by how many numbers it is, the last used ones.
  const kept = new Map();
  let keptNumbers = 0;
  const remembered = (key, make) => {
    const known = kept.get(key);
    if (known !== undefined) {
      kept.delete(key); // and back in, as the last used
      kept.set(key, known);
      return known;
    }
    const found = make();
    kept.set(key, found);
    keptNumbers += found.length ?? 1;
    for (const [oldest, one] of kept) {
      if (keptNumbers <= 3e6 || oldest === key) break;
      kept.delete(oldest);
      keptNumbers -= one.length ?? 1;
    }
    return found;
  };
  const draws = (dist, name, count) => remembered(`${name}\n${count}\n${dist.shape}\n${dist.points}`, () => {
    const of = inverse(dist), found = shares(name, count);
    for (let i = 0; i < count; i += 1) found[i] = of(found[i]);
    return found;
  });

  // ---- reading and writing -----------------------------------------------------------------------------------
  const fail = (message) => { throw new Error(message); };
  const micro = (text) => {
    const found = /^([0-9]{1,12})(?:\.([0-9]{1,6}))?$/.exec(text);
    return found ? Number(found[1]) * MICRO + Number((found[2] || "").padEnd(6, "0")) : null;
  };
  const seconds = { d: 86400, h: HOUR, min: 60, m: 60, s: 1 };
  const duration = (text) => {
    if (text === "0") return 0;
    if (!/^(?:[0-9.]+(?:d|h|min|m|s))+$/.test(text)) return null;
    let total = 0;
    for (const [, number, unit] of text.matchAll(/([0-9.]+)(d|h|min|m|s)/g)) {
      const part = micro(number);
      if (part === null) return null;
      total += part * seconds[unit];
    }
    return Math.floor((total + 500000) / MICRO);
  };
  const value = (text, unit) => {
    let found = null;
    if (unit === "duration" || (unit === "hours" && /[a-z]/.test(text))) found = duration(text);
    else {
      const read = micro(text);
      if (read !== null) {
        if (unit === "usd") found = read;
        else if (unit === "hours") found = Math.floor((read * HOUR + 500000) / MICRO);
        else found = read % MICRO === 0 ? read / MICRO : null;
      }
    }
    if (found === null) fail(`“${text}” is not ${WANTED[unit]}`);
    if (found > CEILING[unit]) fail(`“${text}” is too much: check the number`);
    return found;
  };
  const parse = (text, unit) => {
    const said = text.toLowerCase().replace(/\s+/g, "");
    const call = /^([a-z]+)\((.*)\)$/.exec(said);
    const parts = call ? call[2].split(",").map((part) => part.slice(part.indexOf("=") + 1)) : said.split("..");
    const shape = call ? call[1] : ["", "fixed", "uniform", "triangular"][parts.length] || "";
    const wanted = { fixed: 1, uniform: 2, triangular: 3, lognormal: 2 };
    if (!Object.hasOwn(wanted, shape) || wanted[shape] !== parts.length) fail("use a value, low..high, low..likely..high, or lognormal(median,p90)");
    const points = parts.map((part) => value(part, unit));
    for (let i = 1; i < points.length; i += 1) if (points[i] < points[i - 1]) fail("write the smallest value first");
    if (shape === "lognormal" && points[0] === 0) fail("a median of 0");
    const dist = { shape, points };
    if (highest(dist) > CEILING[unit]) fail("reaches too far: check the numbers");
    return dist;
  };
  const group = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  const money = (amount) => {
    const cents = Math.floor((amount + 5000) / 10000);
    return `$${group(Math.floor(cents / 100))}.${String(cents % 100).padStart(2, "0")}`;
  };
  const price = (amount) => {
    const digits = String(amount % MICRO).padStart(6, "0").replace(/0+$/, "").padEnd(2, "0");
    return `$${group(Math.floor(amount / MICRO))}.${digits}`;
  };
  const durationText = (total) => {
    const parts = [[Math.floor(total / HOUR), "h"], [Math.floor(total % HOUR / 60), "min"], [total % 60, "s"]];
    return parts.filter(([number]) => number).map(([number, unit]) => `${number} ${unit}`).join(" ") || "0 s";
  };
  const plain = (number, unit) => {
    if (unit === "duration" || unit === "hours") return durationText(number).replace(" min", "m").replaceAll(" ", "");
    if (unit === "usd") return price(number).slice(1).replaceAll(",", "").replace(/\.?0+$/, "");
    return String(number);
  };
  const read = (pool) => {
    const inputs = {};
    for (const [key, text] of Object.entries(pool.inputs)) {
      if (text.trim() === "") continue;
      try { inputs[key] = parse(text, UNITS[key]); } catch (error) { error.at = [pool.name, key]; throw error; }
      if (["gpus", "price", "max_hours"].includes(key) && highest(inputs[key]) === 0) {
        throw Object.assign(new Error("0 costs nothing: remove the pool instead"), { at: [pool.name, key] });
      }
    }
    for (const key of ["gpus", "price"]) if (!inputs[key]) throw Object.assign(new Error("needed"), { at: [pool.name, key] });
    for (const key of ["price", ...RATES]) {
      if (inputs[key] && highest(inputs[key]) > MOST_AN_HOUR) throw Object.assign(new Error("above 100000 dollars an hour"), { at: [pool.name, key] });
    }
    if (!inputs.max_hours && !inputs.detect && !inputs.look) {
      throw Object.assign(new Error("nothing ends it: give a job limit, a time to detect or until someone looks"), { at: [pool.name, "max_hours"] });
    }
    return { ...pool, inputs, lease_usd: pool.lease_usd === "" || pool.lease_usd == null ? null : value(pool.lease_usd, "usd") };
  };

  // ---- the model ---------------------------------------------------------------------------------------------
  const drawn = (pool, stream, count) => {
    const columns = {};
    for (const [key, dist] of Object.entries(pool.inputs)) {
      columns[key] = isFixed(dist) ? dist.points[0] : draws(dist, `${stream}/${key}`, count);
    }
    return { pool, columns, key: described(pool, stream, count) };
  };
  const one = (column, i) => typeof column === "number" ? column : column[i];
  const costOf = (units, each, time) => {
    const all = units * time, hours = Math.floor(all / HOUR), rest = all - hours * HOUR; // exact: all is below 2^45
    return each * hours + Math.floor((each * rest + HOUR / 2) / HOUR);
  };
  const most = (part) => {
    if (typeof part === "number") return part;
    let found = 0;
    for (let i = 0; i < part.length; i += 1) if (part[i] > found) found = part[i];
    return found;
  };
  // A column is a number where the input is certain, else one number per draw.
  const column = (part, count, of) => {
    if (typeof part === "number") return of(part);
    const found = new Float64Array(count);
    for (let i = 0; i < count; i += 1) found[i] = of(part[i]);
    return found;
  };
  const column2 = (left, right, count, of) => {
    if (typeof right === "number") return column(left, count, (each) => of(each, right));
    if (typeof left === "number") return column(right, count, (each) => of(left, each));
    const found = new Float64Array(count);
    for (let i = 0; i < count; i += 1) found[i] = of(left[i], right[i]);
    return found;
  };
  const least = (columns, count) => {
    let limit = Infinity;
    const lists = [];
    for (const each of columns) if (typeof each === "number") limit = Math.min(limit, each); else lists.push(each);
    if (!lists.length) return limit;
    const found = new Float64Array(count).fill(limit);
    if (lists.length === 1 && limit === Infinity) return lists[0];
    for (const list of lists) for (let i = 0; i < count; i += 1) if (list[i] < found[i]) found[i] = list[i];
    return found;
  };
  const gpus = ({ pool, columns }, rail, count) => {
    const limits = COUNTS.filter((key) => key in columns).map((key) => columns[key]);
    if (pool.kind === "gpu") {
      for (const [key, percent] of [["quota", rail.quota_percent], ["autoscaler_max", rail.autoscaler_percent]]) {
        if (percent === undefined) continue;
        limits.push(column(key in columns ? columns[key] : columns.gpus, count, (each) => Math.floor(each * percent / 100)));
      }
      if (rail.lease_cap !== undefined) limits.push(rail.lease_cap);
    }
    return least(limits, count);
  };
  const keyOf = (of, rail, limits) => [of.key, ...limits.map((limit) => rail[limit] ?? "")].join("\n");
  const COUNT_RAILS = ["lease_cap", "quota_percent", "autoscaler_percent"], TIME_RAILS = ["detect", "respond", "max_hours", "look"];
  const paid = (of, rail, count) => remembered(`paid\n${keyOf(of, rail, COUNT_RAILS)}`, () => {
    const size = of.pool.per_unit, free = Math.floor(of.pool.idle / size), cards = gpus(of, rail, count);
    if (size === 1 && free === 0) return cards;
    return column(cards, count, (each) => Math.max(Math.floor(each / size) - free, 0));
  });
  const time = (of, rail, count) => remembered(`time\n${keyOf(of, rail, TIME_RAILS)}`, () => {
    const { columns } = of;
    const ends = ["max_hours", "look"].filter((key) => key in columns).map((key) => columns[key]);
    for (const limit of [rail.max_hours, rail.look]) if (limit !== undefined) ends.push(limit);
    const detect = "detect" in columns ? [columns.detect] : [];
    if (rail.detect !== undefined) detect.push(rail.detect);
    if (detect.length) {
      const respond = ["respond" in columns ? columns.respond : 0];
      if (rail.respond !== undefined) respond.push(rail.respond);
      ends.push(column2(least(detect, count), least(respond, count), count, (left, right) => left + right));
    }
    return least(ends, count);
  });
  const loss = (of, rail, count) => {
    const lease = Math.min(of.pool.lease_usd ?? Infinity, rail.lease_usd ?? Infinity);
    const units = paid(of, rail, count), ends = time(of, rail, count);
    const price = of.columns.price;
    let found;
    if (typeof units === "number" && typeof price === "number" && typeof ends === "number") {
      found = Math.min(costOf(units, price, ends), lease);
    } else {
      found = new Float64Array(count);
      const [u, p, t] = [units, price, ends].map((part) => spread(part, count));
      const small = most(units) * most(price) * most(ends) < 2 ** 50; // then one division is exact
      for (let i = 0; i < count; i += 1) {
        const cost = small ? Math.floor((u[i] * p[i] * t[i] + HOUR / 2) / HOUR) : costOf(u[i], p[i], t[i]);
        found[i] = cost < lease ? cost : lease;
      }
    }
    const extra = [
      ...RATES.filter((key) => key in of.columns).map((key) => column2(of.columns[key], ends, count, (each, long) => costOf(1, each, long))),
      ...SUMS.filter((key) => key in of.columns).map((key) => of.columns[key]),
    ];
    return extra.reduce((whole, part) => column2(whole, part, count, (left, right) => left + right), found);
  };
  const spread = (each, count) => typeof each === "number" ? new Float64Array(count).fill(each) : each;
  const sum = (columns, count) => {
    const found = new Float64Array(count);
    for (const each of columns) {
      const values = spread(each, count);
      for (let i = 0; i < count; i += 1) found[i] += values[i];
    }
    return found;
  };
  // Put the value of rank k at place k, no smaller one after it: Hoare's selection, far quicker than sorting.
  const select = (values, k, low, high) => {
    while (low < high) {
      const a = values[low], b = values[(low + high) >> 1], c = values[high];
      const pivot = a < b ? (b < c ? b : a < c ? c : a) : a < c ? a : b < c ? c : b;
      let i = low, j = high;
      while (i <= j) {
        while (values[i] < pivot) i += 1;
        while (values[j] > pivot) j -= 1;
        if (i <= j) { const kept = values[i]; values[i] = values[j]; values[j] = kept; i += 1; j -= 1; }
      }
      if (k <= j) high = j; else if (k >= i) low = i; else return;
    }
  };
  const quantiles = (values) => {
    if (typeof values === "number") return { p50: values, p90: values, p99: values };
    const ranked = values.slice(), last = ranked.length - 1;
    let low = 0;
    const rank = (percent) => {
      const k = Math.floor((percent * ranked.length + 99) / 100) - 1;
      select(ranked, k, low, last);
      low = k;
      return ranked[k];
    };
    return { p50: rank(50), p90: rank(90), p99: rank(99) };
  };
  const constant = (pool) => Object.fromEntries(Object.entries(pool.inputs).map(([key, dist]) => [key, highest(dist)]));
  // `key` says all that a pool's columns depend on; one whose inputs are at their worst is no draw.
  const described = (pool, stream, count) => [stream, count, pool.kind, pool.per_unit, pool.idle, pool.lease_usd, JSON.stringify(pool.inputs)].join("\n");
  const highestOf = (pool) => ({ pool, columns: constant(pool), key: `highest\n${described(pool, "", 1)}` });
  const worst = (pool) => loss(highestOf(pool), {}, 1);
  const RAILS = ["detect", "respond", "max_hours", "look", "lease_cap", "lease_usd", "quota_percent", "autoscaler_percent"];
  // `detect=15m,respond=10m` as the command line's --guardrail has it.
  const rail = (name, said) => {
    const found = { name };
    for (const part of said.split(",")) {
      const [key, text] = [part.slice(0, part.indexOf("=")).trim(), part.slice(part.indexOf("=") + 1).trim()];
      if (!RAILS.includes(key)) fail(`“${part}” is no limit: write detect=15m or the like`);
      if (key in found) fail(`${key} is given twice`);
      found[key] = value(text.toLowerCase(), UNITS[key]);
      if (key.endsWith("_percent") && found[key] > 100) fail("more than 100 %");
    }
    return found;
  };
  // The command line's usual_guardrails.
  const usual = (pools) => {
    const gpu = pools.some((pool) => pool.kind === "gpu"), looks = pools.some((pool) => (pool.inputs.look ?? "") !== "");
    return [
      { name: "alert within 15 min", detect: 900 }, { name: "respond within 15 min", respond: 900 }, { name: "job time limit of 4 h", max_hours: 4 * HOUR },
      ...gpu ? [{ name: "half the quota", quota_percent: 50 }, { name: "lease cap of 64 GPUs per pool", lease_cap: 64 }] : [],
      { name: "dollar lease of $5,000 per pool", lease_usd: 5000 * MICRO },
      ...looks ? [{ name: "someone looks every 4 h", look: 4 * HOUR }, ...gpu ? [{ name: "autoscaler at a quarter off-hours", autoscaler_percent: 25 }] : []] : [],
    ];
  };
  const combined = (rails) => {
    const found = { name: "all of them" };
    for (const rail of rails) for (const [key, limit] of Object.entries(rail)) {
      if (key !== "name") found[key] = key in found ? Math.min(found[key], limit) : limit;
    }
    return found;
  };

  // ---- the arithmetic ----------------------------------------------------------------------------------------
  const WORDS = { gpus: "asked for", quota: "quota", autoscaler_max: "autoscaler maximum", obtainable: "obtainable", lease_cap: "lease cap" };
  const ends = (values) => {
    const found = "max_hours" in values ? [["job limit", values.max_hours]] : [];
    if ("detect" in values) found.push(["detect + respond", values.detect + (values.respond ?? 0)]);
    if ("look" in values) found.push(["someone looks", values.look]);
    return found;
  };
  const timeLine = (values, total) => {
    const said = ends(values).map(([word, end]) => word === "detect + respond"
      ? `detect ${durationText(values.detect)} + respond ${durationText(values.respond ?? 0)} = ${durationText(end)}`
      : `${word} ${durationText(end)}`);
    return said.length === 1 ? `time: ${said[0]}` : `time = min(${said.join("; ")}) = ${durationText(total)}`;
  };
  const poolLines = (pool, values) => {
    const told = [], total = Math.min(...ends(values).map(([, end]) => end));
    let units = 1, what = "";
    if (pool.kind !== "tokens") {
      const counts = COUNTS.filter((key) => key in values).map((key) => [WORDS[key], values[key]]);
      units = Math.min(...counts.map(([, count]) => count)); what = "GPUs";
      const said = counts.map(([word, count]) => `${word} ${group(count)}`).join("; ");
      told.push(counts.length > 1 ? `GPUs = min(${said}) = ${group(units)}` : `GPUs ${said}`);
      if (pool.per_unit > 1) {
        told.push(`instances = ${group(units)} GPUs ÷ ${pool.per_unit} = ${group(Math.floor(units / pool.per_unit))}, rounded down`);
        units = Math.floor(units / pool.per_unit); what = "instances";
      }
      const free = Math.floor(pool.idle / pool.per_unit);
      if (free) {
        const rest = Math.max(units - free, 0);
        told.push(`${group(units)} ${what} − ${group(free)} that are paid for anyway = ${group(rest)}, not below 0`);
        units = rest;
      }
    }
    told.push(timeLine(values, total));
    let cost = costOf(units, values.price, total);
    told.push(`loss = ${what ? `${group(units)} ${what} × ` : ""}${price(values.price)} an hour × ${durationText(total)} = ${money(cost)}`);
    if (pool.lease_usd !== null && cost > pool.lease_usd) {
      cost = pool.lease_usd;
      told.push(`loss = at most the dollar lease = ${money(cost)}`);
    }
    const extra = [];
    for (const word of ["storage", "egress"]) {
      const rate = values[`${word}_usd_per_hour`] ?? 0, once = values[`${word}_usd`] ?? 0;
      if (rate) {
        const amount = costOf(1, rate, total);
        told.push(`${word} = ${price(rate)} an hour × ${durationText(total)} = ${money(amount)}`);
        extra.push([word, amount]);
      }
      if (once) extra.push([rate ? `${word} once` : word, once]);
    }
    if (extra.length) {
      const whole = extra.reduce((sum, [, amount]) => sum + amount, cost);
      const said = extra.map(([word, amount]) => `${word} ${money(amount)}`).join(" + ");
      told.push(`loss = ${money(cost)} + ${said} = ${money(whole)}`);
      cost = whole;
    }
    return [told, cost];
  };
  const caseLines = (pools, values) => {
    const found = [], sums = [];
    pools.forEach((pool, index) => {
      const [told, cost] = poolLines(pool, values[index]);
      for (const line of told) found.push(`  ${pool.name}: ${line}`);
      sums.push(cost);
    });
    if (pools.length > 1) found.push(`  all pools at once: ${sums.map(money).join(" + ")} = ${money(sums.reduce((a, b) => a + b, 0))}`);
    return found;
  };
  const lines = (pools, cases) => {
    const titles = new Map();
    for (const [title, values] of cases) {
      const text = caseLines(pools, values).join("\n");
      titles.set(text, [...(titles.get(text) || []), title]);
    }
    return [...titles].flatMap(([text, names]) => [`${names.join(", ")}:`, ...text.split("\n")]);
  };

  const check = (pools) => {
    if (!pools.length) fail("add a pool");
    if (new Set(pools.map((pool) => pool.name)).size < pools.length) fail("two pools have the same name");
    let whole = 0, burn = 0;
    for (const pool of pools) {
      const certain = highestOf({ ...pool, lease_usd: null });
      whole += loss(certain, {}, 1);
      burn += paid(certain, {}, 1) * certain.columns.price;
    }
    if (Math.max(whole, burn) > LIMIT) fail("the worst case, or what an hour of it costs, is above 5 billion dollars");
  };
  // What doesn't depend on other pools is kept by pool, so that moving one slider leaves the others' losses alone.
  const lossOf = (of, rail, count) => remembered(
    `loss\n${keyOf(of, rail, [...of.pool.kind === "gpu" ? COUNT_RAILS : [], ...TIME_RAILS, "lease_usd"])}`, () => loss(of, rail, count),
  );
  const assess = (model) => {
    const pools = model.pools.map(read), count = model.samples, rails = model.guardrails ?? usual(model.pools);
    check(pools);
    const whole = (drawnPools, rail) => sum(drawnPools.map((of) => lossOf(of, rail, count)), count);
    const together = pools.map(() => `${model.seed}`), apart = pools.map((pool) => `${model.seed}/${pool.name}`);
    const all = pools.map((pool, index) => drawn(pool, together[index], count));
    const total = whole(all, {}), same = quantiles(total);
    const independent = pools.length === 1 ? same : quantiles(whole(pools.map((pool, index) => drawn(pool, apart[index], count)), {}));
    const weigh = (rail) => {
      const left = quantiles(whole(all, rail));
      return { name: rail.name, removes_p50: same.p50 - left.p50, removes_p99: same.p99 - left.p99, left };
    };
    const weighed = rails.map(weigh).sort((a, b) => b.removes_p99 - a.removes_p99 || b.removes_p50 - a.removes_p50);
    const values = (index) => all.map(({ columns }) => Object.fromEntries(Object.entries(columns).map(([key, each]) => [key, one(each, index)])));
    const cases = [
      ["P50", values(total.indexOf(same.p50))], ["P99", values(total.indexOf(same.p99))], ["worst case", pools.map(constant)],
    ];
    return {
      pools: all.map((of) => {
        const told = (what, make) => remembered(`${what}\n${of.key}`, () => quantiles(make()));
        return {
          name: of.pool.name, gpus: of.pool.kind === "tokens" ? 0 : told("cards", () => gpus(of, {}, count)).p50,
          seconds: told("seconds", () => time(of, {}, count)).p50,
          usd_per_hour: told("burn", () => column2(paid(of, {}, count), of.columns.price, count, (left, right) => left * right)).p50,
          loss: told("ranks", () => lossOf(of, {}, count)), worst: worst(of.pool),
        };
      }),
      same, independent, worst: pools.reduce((sum, pool) => sum + worst(pool), 0),
      guardrails: weighed, together: rails.length > 1 ? weigh(combined(rails)) : null, lines: lines(pools, cases), losses: total,
    };
  };
  return { assess, usual, rail, parse, plain, highest, money, price, durationText, group, shares, draws, UNITS, value };
})();
if (typeof module !== "undefined") module.exports = BlastRadius;
