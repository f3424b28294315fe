--[[
gpuledger's policy in Slurm: what a job must say, how large and dear it may be, and who pays, before it is queued.

Copy it beside slurm.conf with gpuledger-policy.lua (`gpuledger policy render --target slurm` writes both) and set
JobSubmitPlugins=lua. It decides as `gpuledger check` does, in the same words. It opens no connection and starts no
process: it reads gpuledger-policy.lua (rules) and gpuledger-cache.lua (prices, what budgets have left; written by
`gpuledger slurm cache`), and looks every few seconds whether the first line of one has changed. What it admits on a
budget stands in gpuledger-journal, and counts until a newer cache knows of it.

Amounts are whole numbers, in millionths of a dollar or in cents: a double holds them exactly up to 2^53.
For Lua 5.1 to 5.4, whichever Slurm was built with.
]]

local HERE = (debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$")) or "."
-- Where the cache and the journal are: a folder that slurmctld may write.
local STATE = os.getenv("GPULEDGER_STATE") or HERE
local POLICY_FILE = HERE .. "/gpuledger-policy.lua"
local CACHE_FILE = STATE .. "/gpuledger-cache.lua"
local JOURNAL_FILE = STATE .. "/gpuledger-journal"
local RECHECK_SECONDS = 5
local floor, format = math.floor, string.format

local policy, policy_mark, cache, cache_mark, checked
local journal -- entries {time, millionths of a dollar, budget}, oldest first
local models = {} -- what a type of card is called -> its model, false for none

-- Files

local function first_line(path)
  local file = io.open(path, "r")
  if not file then return nil end
  local line = file:read("*l")
  file:close()
  return line
end

local function read_data(path)
  local chunk, problem
  if setfenv then
    chunk, problem = loadfile(path)
    if chunk then setfenv(chunk, {}) end
  else
    chunk, problem = loadfile(path, "t", {})
  end
  if not chunk then return nil, problem end
  local done, found = pcall(chunk)
  if not done then return nil, found end
  if type(found) ~= "table" or found.version ~= 1 then return nil, path .. ": not of version 1" end
  return found
end

local function read_journal()
  journal = {}
  local file = io.open(JOURNAL_FILE, "r")
  if not file then return end
  for line in file:lines() do
    local moment, amount, budget = line:match("^(%d+)\t(%d+)\t(.+)$")
    if moment then journal[#journal + 1] = { tonumber(moment), tonumber(amount), budget } end
  end
  file:close()
end

local function line_of(entry) return format("%.0f\t%.0f\t%s\n", entry[1], entry[2], entry[3]) end

-- Forgets what the cache knows of by now. A journal that can't be replaced is only longer than it has to be.
local function shorten_journal()
  local since
  for _, known in pairs(cache.budgets) do
    if since == nil or known.since < since then since = known.since end
  end
  local kept = {}
  for _, entry in ipairs(journal) do
    if since == nil or entry[1] >= since then kept[#kept + 1] = entry end
  end
  if #kept == #journal then return end
  local part = JOURNAL_FILE .. ".part"
  local file = io.open(part, "w")
  if not file then return end
  local whole = true
  for _, entry in ipairs(kept) do whole = file:write(line_of(entry)) and whole end
  if file:close() and whole and os.rename(part, JOURNAL_FILE) then journal = kept end
end

local function note(amount, budget, now)
  local entry = { now, amount, budget }
  local file = io.open(JOURNAL_FILE, "a")
  if not file then return false end
  local written = file:write(line_of(entry))
  if not file:close() or not written then return false end
  journal[#journal + 1] = entry
  return true
end

-- A file that is broken changes nothing: the old one stays, and slurmctld's log says so at each look.
local function refresh(now)
  if checked and now >= checked and now < checked + RECHECK_SECONDS then return end
  checked = now
  if not journal then read_journal() end
  local mark = first_line(POLICY_FILE)
  if mark == nil or mark ~= policy_mark then
    local found, problem = read_data(POLICY_FILE)
    if found then
      policy, policy_mark, models = found, mark, {}
    else
      slurm.log_error("gpuledger: the policy can't be read, %s stays: %s", policy and "the old one" or "none", tostring(problem))
    end
  end
  mark = first_line(CACHE_FILE)
  if mark ~= nil and mark ~= cache_mark then
    local found, problem = read_data(CACHE_FILE)
    if found then
      cache, cache_mark = found, mark
      shorten_journal()
    else
      slurm.log_error("gpuledger: prices and budgets can't be read, the old ones stay: %s", tostring(problem))
    end
  end
end

-- Texts

local function repr(text)
  local quote = (text:find("'", 1, true) and not text:find('"', 1, true)) and '"' or "'"
  local body = text:gsub("\\", "\\\\"):gsub("[%c\127]", function(letter)
    local short = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
    return short[letter] or format("\\x%02x", letter:byte())
  end)
  if quote == "'" then body = body:gsub("'", "\\'") end
  return quote .. body .. quote
end

local function whole(number) return format("%.0f", number) end

local function dollars(cents)
  local sign = cents < 0 and "-" or ""
  cents = math.abs(cents)
  return format("%s%.0f.%02.0f", sign, floor(cents / 100), cents % 100)
end

local function dollars_of(micro)
  if micro % 10000 == 0 then return dollars(micro / 10000) end
  local sign = micro < 0 and "-" or ""
  micro = math.abs(micro)
  return format("%s%.0f.%06.0f", sign, floor(micro / 1000000), micro % 1000000)
end

local function ceil(number, by) return floor((number + by - 1) / by) end

-- A quotient with 28 significant digits, as Python's decimals have them.
local function quotient(number, by)
  local head, rest = floor(number / by), number % by
  local text = whole(head)
  local room = 28 - (head > 0 and #text or 0)
  if rest == 0 then return text end
  local digits, leading = {}, head == 0
  while rest > 0 and room > 0 do
    rest = rest * 10
    local digit = floor(rest / by)
    rest = rest % by
    digits[#digits + 1] = digit
    if digit > 0 then leading = false end
    if not leading then room = room - 1 end
  end
  if rest * 2 > by or (rest * 2 == by and digits[#digits] % 2 == 1) then
    local place = #digits
    while digits[place] == 9 do
      digits[place] = 0
      place = place - 1
    end
    digits[place] = digits[place] + 1
  end
  return text .. "." .. table.concat(digits)
end

-- The likeness of difflib: twice the letters in common blocks by the letters of both.
local function alike(a, b, first, last, from, to)
  local best, at, bt, lengths = 0, first, from, {}
  for i = first, last do
    local now = {}
    local letter = a:byte(i)
    for j = from, to do
      if b:byte(j) == letter then
        local length = (lengths[j - 1] or 0) + 1
        now[j] = length
        if length > best then best, at, bt = length, i - length + 1, j - length + 1 end
      end
    end
    lengths = now
  end
  if best == 0 then return 0 end
  return best + alike(a, b, first, at - 1, from, bt - 1) + alike(a, b, at + best, last, bt + best, to)
end

local function closest(value, allowed)
  local best, found
  for known in pairs(allowed) do
    local length = #known + #value
    if 2 * math.min(#known, #value) / length >= 0.6 then
      local score = 2 * alike(known, value, 1, #known, 1, #value) / length
      if score >= 0.6 and (best == nil or score > best or (score == best and known > found)) then best, found = score, known end
    end
  end
  return found
end

-- A value that is longer than anybody's names fits nothing: patterns must not keep slurmctld busy.
local function fits(patterns, value)
  if #value > 1000 then return false end
  for _, pattern in ipairs(patterns) do
    if value:find(pattern) then return true end
  end
  return false
end

-- The job

local function given(value)
  if value == nil or value == "" then return nil end
  return tostring(value)
end

-- Slurm's numbers for "not given" and "without end", of 32 bits and of 16.
local NONE, NONE_SHORT = 0xfffffffe, 0xfffe
local function count(value, none)
  if type(value) ~= "number" or value >= (none or NONE) or value <= 0 then return nil end
  return value
end

local function trim(text) return (text:gsub("^%s+", ""):gsub("%s+$", "")) end

local function pairs_of(comment)
  local body = trim(comment or ""):gsub("^gpuledger:", "")
  local separator = "%S+"
  if body:find(";", 1, true) then
    separator = "[^;]+"
  elseif body:find(",%s*[A-Za-z][%w_./-]*=") then
    separator = "[^,]+"
  end
  local found = {}
  for item in body:gmatch(separator) do
    local key, value = trim(item):match("^([^=]*)=(.*)$")
    if key then
      key, value = trim(key), trim(value)
      if value ~= "" and key:find("^[A-Za-z][%w_./-]*$") and found[key] == nil then
        found[key] = value:gsub("^[\"']+", ""):gsub("[\"']+$", "")
      end
    end
  end
  return found
end

local function plain_key(key) return (key:lower():gsub("[-_ .:/]+", "")) end

-- The keys that spell a dimension, best first.
local function resolved(tags, spellings)
  local found = {}
  for key in pairs(tags) do
    local lower = key:lower()
    local forms = { [plain_key(lower)] = true }
    for _, prefix in ipairs(policy.prefixes) do
      if lower:sub(1, #prefix) == prefix then forms[plain_key(lower:sub(#prefix + 1))] = true end
    end
    local dot = policy.any_namespace and lower:find(".", 1, true)
    if dot then forms[plain_key(lower:sub(dot + 1))] = true end
    for rank, spelling in ipairs(spellings) do
      if forms[spelling] then
        found[#found + 1] = { rank, key }
        break
      end
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  return found
end

local function said_of(job, submitter)
  local tags, said = pairs_of(job.comment), {}
  if next(tags) then
    for _, name in ipairs(policy.dimensions) do
      local own = name:gsub("_", "-")
      local keys = { { 0, "gpuledger.io/" .. own } }
      for _, one in ipairs(resolved(tags, policy.spellings[name] or {})) do keys[#keys + 1] = one end
      keys[#keys + 1] = { 0, name }
      keys[#keys + 1] = { 0, own }
      for _, one in ipairs(keys) do
        local value = tags[one[2]]
        if value and value ~= "" then
          said[name] = value
          break
        end
      end
    end
  end
  local account, wckey = given(job.account), given(job.wckey)
  said.cost_center = said.cost_center or account
  said.team = said.team or account
  said.project = said.project or wckey
  said.owner = said.owner or submitter
  return said
end

local function model_of(kind)
  if kind == nil then return nil end
  local known = models[kind]
  if known == nil then
    local words = { "" }
    for word in kind:lower():gmatch("[a-z0-9.]+") do words[#words + 1] = word end
    words[#words + 1] = ""
    local text = table.concat(words, " ")
    known = false
    for _, one in ipairs(policy.models) do
      if text:find(one[1], 1, true) then
        known = one[2]
        break
      end
    end
    models[kind] = known
  end
  return known or nil
end

-- How many tasks of an array run at once; nil when that can't be read.
local function at_once(text)
  if text == nil then return 1 end
  local body, most = text:match("^([^%%]*)%%?(.*)$")
  local total = 0
  for part in (body .. ","):gmatch("([^,]*),") do
    part = trim(part)
    local first, last, step = part:match("^(%d+)%-(%d+):(%d+)$")
    if not first then first, last = part:match("^(%d+)%-(%d+)$") end
    if not first then first = part:match("^(%d+)$") end
    if not first then return nil end
    first, step = tonumber(first), tonumber(step or 1)
    last = tonumber(last or first)
    if last < first or step < 1 then return nil end
    total = total + floor((last - first) / step) + 1
  end
  most = tonumber(most:match("^%d+$") or 0)
  return most > 0 and math.min(total, most) or total
end

local function cards_of(job, problems)
  local nodes = count(job.max_nodes) or count(job.min_nodes) or 1
  local least, per_node = count(job.min_nodes) or nodes, count(job.ntasks_per_node, NONE_SHORT)
  local tasks = count(job.num_tasks)
  if not tasks or (per_node and tasks == least * per_node) then tasks = nodes * (per_node or tasks or 1) end
  local array = at_once(given(job.array_inx))
  if array == nil then problems[#problems + 1] = "how many tasks of the array run at once can't be told" end
  local cards = {}
  for _, field in ipairs({ { "tres_per_node", nodes }, { "tres_per_job", 1 }, { "tres_per_task", tasks }, { "tres_per_socket" } }) do
    for word in (given(job[field[1]]) or ""):gmatch("[^,]+") do
      word = trim(word)
      local body = word:gsub("^gres[:/]", "")
      local kind, number = body:match("^gpu[:=]([A-Za-z][%w_.+-]*)[:=](%d+)$")
      if not kind then number = body:match("^gpu[:=](%d+)$") end
      if not number then kind = body:match("^gpu[:=]([A-Za-z][%w_.+-]*)$") end
      if number or kind or body == "gpu" then
        local factor = field[2]
        if factor == nil then problems[#problems + 1] = "how many cards " .. field[1] .. " stands for can't be told" end
        cards[#cards + 1] = { gpus = factor and array and tonumber(number or 1) * factor * array, model = model_of(kind) }
      elseif body:lower():find("gpu", 1, true) then
        problems[#problems + 1] = field[1] .. "=" .. word .. " can't be read"
        cards[#cards + 1] = {}
      end
    end
    if #cards > 0 then break end
  end
  return cards
end

local function default_partition(part_list)
  for name, part in pairs(part_list or {}) do
    if part.flag_default == 1 then return part.name or name end
  end
  return nil
end

local function submission_of(job, part_list, uid)
  local problems = {}
  local submitter = given(job.user_name) or (uid == 0 and "root") or nil
  local found = {
    name = given(job.name) or "",
    cluster = given(job.clusters) or policy.cluster,
    partition = given(job.partition) or default_partition(part_list),
    submitter = submitter,
    cards = cards_of(job, problems),
    minutes = count(job.time_limit),
    said = said_of(job, submitter),
    problems = problems,
  }
  found.offered = { account = given(job.account), submitter = submitter, queue = found.partition }
  local gpus, seen, names = 0, {}, {}
  for _, card in ipairs(found.cards) do
    if not card.gpus then
      gpus, found.accelerated = nil, true
    else
      gpus = gpus and gpus + card.gpus
      found.accelerated = found.accelerated or card.gpus > 0
    end
    if card.model and not seen[card.model] then
      seen[card.model] = true
      names[#names + 1] = card.model
    end
  end
  table.sort(names)
  found.gpus, found.model = gpus, names[1] and table.concat(names, ", ")
  return found
end

-- The decision

local function like(patterns, value, unknown)
  if not patterns then return true end
  if value == nil then return unknown end
  return fits(patterns, value)
end

local function matches(when, job, unknown)
  if not job.accelerated and not when.without_gpus then return false end
  if not (like(when.partitions, job.partition, unknown) and like(when.clusters, job.cluster, unknown)) then return false end
  if not (like(when.names, job.name, unknown) and like(when.submitters, job.submitter, unknown)) then return false end
  if not like(when.workload_types, job.said.workload_type, unknown) then return false end
  if not when.min_gpus then return true end
  if job.gpus == nil then return unknown end
  return job.gpus >= when.min_gpus
end

local function rate_of(model)
  local own = policy.rates
  local learnt = cache and cache.rates or {}
  if model == nil then return own.any end
  return own.models[model] or learnt[model] or own.any or own.listed[model]
end

local function run_of(name)
  local words = {}
  for word in (name:gsub("%-+$", "") .. "-"):gmatch("([^-]*)%-") do words[#words + 1] = word end
  while #words > 1 do
    local word = words[#words]
    local suffix = #word >= 5 and #word <= 10 and word:find("^[a-z0-9]+$") and word:find("%d")
    if not (word:find("^%d+$") or suffix) then break end
    words[#words] = nil
  end
  return table.concat(words, "-")
end

-- Hours as a fraction: {P50, P90} over `by`, and the words for them.
local function hours_of(job)
  local known = cache and cache.runs[job.offered.account or ""]
  known = known and known[run_of(job.name)]
  local limit = job.minutes
  if known then
    local told = format("%s earlier runs: %s h, 9 of 10 within %s h", whole(known.n), quotient(known.p50, 10000), quotient(known.p90, 10000))
    if limit and limit * 10000 < known.p90 * 60 then
      local p50 = math.min(known.p50 * 60, limit * 10000)
      return p50, limit * 10000, 600000, told .. "; its deadline is " .. quotient(limit, 60) .. " h"
    end
    return known.p50, known.p90, 10000, told
  end
  if limit then return limit, limit, 60, "its deadline of " .. quotient(limit, 60) .. " h" end
  return nil, nil, nil, "neither a deadline nor earlier runs"
end

local function estimate(job)
  local hourly, basis, seen = 0, {}, {}
  if not job.accelerated then hourly, basis[1] = nil, "asks for no card" end
  for _, card in ipairs(job.accelerated and job.cards or {}) do
    local rate = rate_of(card.model)
    if not card.gpus or not rate then
      local why = not card.gpus and "how many cards it asks for can't be told"
        or "no price of " .. (card.model or "cards whose model is not said")
      hourly, basis = nil, { why }
      break
    end
    hourly = hourly + card.gpus * rate.micro
    local line = format("%s × %s USD per card-hour (%s)", whole(card.gpus), rate.usd, rate.basis)
    if not seen[line] then
      seen[line] = true
      basis[#basis + 1] = line
    end
  end
  local p50, p90, by, told = hours_of(job)
  basis[#basis + 1] = told
  return {
    hourly = hourly and ceil(hourly, 10000),
    p50 = hourly and p50 and ceil(hourly * p50, by * 10000),
    p90 = hourly and p90 and ceil(hourly * p90, by * 10000),
    basis = basis,
  }
end

local function left_of(budget, now)
  local known = cache and cache.budgets[budget.name]
  if not known then return nil end
  local left, since = known.left_micro, known.since
  if now >= known.resets then left, since = budget.amount_micro, known.resets end
  for _, entry in ipairs(journal) do
    if entry[3] == budget.name and entry[1] >= since then left = left - entry[2] end
  end
  return left
end

local function off_hours(now)
  local calendar = policy.calendar
  local offset = 0
  for _, change in ipairs(calendar.offsets) do
    if now >= change[1] then offset = change[2] end
  end
  local here = now + offset
  local day, hour = floor(here / 86400), floor(here % 86400 / 3600)
  return (day + 3) % 7 >= 5 or calendar.holidays[day] == true or hour < calendar.opens or hour >= calendar.closes
end

local function required(job, values, before, tell)
  for _, rule in ipairs(policy.require) do
    if matches(rule.when, job, true) then
      local name, place = rule.dimension, policy.fields[rule.dimension]
      local value = values[name]
      if value == nil then
        tell(name, name .. " is missing", "Add " .. place .. rule.example .. ".")
      else
        if rule.allowed and not rule.allowed[value] then
          local close = rule.suggest and #value <= 64 and closest(value, rule.allowed)
          local hint = close and "Did you mean " .. close .. "?" or "Use one of: " .. rule.listed .. "."
          tell(name, name .. " " .. repr(value) .. " is not in " .. rule.where, hint .. " It is read from " .. place .. ".")
        elseif rule.patterns and not fits(rule.patterns, value) then
          tell(name, name .. " " .. repr(value) .. " does not match " .. rule.pattern, "It is read from " .. place .. ".")
        end
        local earlier = before and before[name]
        if rule.immutable and earlier and earlier ~= value then
          tell(
            name,
            format("%s can't be changed from %s to %s while the workload lives", name, repr(earlier), repr(value)),
            "Delete the workload and submit it again."
          )
        end
      end
    end
  end
end

local function limited(job, price, now, tell)
  local deadline = policy.fields.deadline
  for _, limit in ipairs(policy.limit) do
    if matches(limit.when, job, true) then
      local held = job.gpus and job.minutes and job.gpus * job.minutes
      local fewer = "Ask for fewer cards, or set " .. deadline .. "."
      local wanted = {
        { "cards", limit.gpus, job.gpus, job.gpus and whole(job.gpus), "Ask for fewer cards." },
        { "hours", limit.minutes, job.minutes, job.minutes and quotient(job.minutes, 60), "Set " .. deadline .. "." },
        { "card-hours", limit.card_minutes, held, held and (held % 60 == 0 and whole(held / 60) or format("%.3g", held / 60)), fewer },
        { "USD expected (P90)", limit.cents, price.p90, price.p90 and dollars(price.p90), fewer },
      }
      for _, one in ipairs(wanted) do
        local unit, allowed, asked = one[1], one[2], one[3]
        if allowed and not asked then
          tell(limit.name, format("%s allows %s %s, and how many this takes can't be told", limit.name, allowed.text, unit), one[5])
        elseif allowed and asked > allowed.most then
          tell(limit.name, format("%s allows %s %s, this takes %s", limit.name, allowed.text, unit, one[4]), one[5])
        end
      end
      if limit.deadline and not job.minutes and (limit.deadline == "always" or off_hours(now)) then
        local when = limit.deadline == "always" and "" or " outside working hours"
        tell(limit.name, limit.name .. " wants a deadline" .. when, "Set " .. deadline .. ".")
      end
    end
  end
end

local function budget_of(values)
  for _, budget in ipairs(policy.budget) do
    if values.budget then
      if budget.name == values.budget then return budget end
    elseif next(budget.match) then
      local all = true
      for name, value in pairs(budget.match) do all = all and values[name] == value end
      if all then return budget end
    end
  end
  return nil
end

local function paid(job, values, price, draw, tell)
  if draw then
    local budget, mild = draw.budget, draw.budget.on_exceed == "warn"
    if not price.p90 then
      tell(
        budget.name,
        format("budget %s of %s can't reserve a cost that can't be told: %s", budget.name, budget.owner, table.concat(price.basis, "; ")),
        "Set a deadline.",
        mild
      )
    elseif draw.left and price.p90 * 10000 > draw.left then
      tell(
        budget.name,
        format("budget %s has %s USD left, this needs %s USD", budget.name, dollars_of(draw.left), dollars(price.p90)),
        format("Ask %s, or wait for the next %s.", budget.owner, budget.period),
        mild
      )
    end
  end
  if values.budget and policy.budgets[values.budget] == nil and #policy.budget > 0 and job.accelerated then
    tell("budget", "there is no budget " .. repr(values.budget), "Use one of: " .. policy.budgets_listed .. ".")
  end
end

local function decide(job, now, before)
  local mode, scope = policy.mode, "policy"
  for _, one in ipairs(policy.scope) do
    if matches(one.when, job, false) then
      mode, scope = one.mode, one.name
      break
    end
  end
  local price = estimate(job)
  local found = { mode = mode, scope = scope, would = "allow", outcome = "allow", broken = {}, filled = {}, notes = {}, price = price }
  if mode == "off" then return found end
  local values = {}
  for name, value in pairs(job.said) do values[name] = value end
  for _, rule in ipairs(policy.require) do
    local name = rule.dimension
    if job.said[name] == nil and matches(rule.when, job, true) then
      local value = rule.default
      for place = #rule.default_from, 1, -1 do value = job.offered[rule.default_from[place]] or value end
      if value ~= nil then values[name], found.filled[name] = value, value end
    end
  end
  local exemptions = {}
  for _, one in ipairs(policy.exemption) do
    if matches(one.when, job, false) then
      if now < one.over then
        exemptions[#exemptions + 1] = one
      else
        found.notes[#found.notes + 1] = format("the exemption %s expired on %s", one.name, one.expires)
      end
    end
  end
  local hard = false
  local function tell(rule, message, fix, only_warns)
    for _, one in ipairs(exemptions) do
      if not one.rules or one.rules[rule] then
        found.exemption = one.name
        return
      end
    end
    hard = hard or not only_warns
    found.broken[#found.broken + 1] = { rule = rule, text = message .. ". " .. fix }
  end
  found.tell = function(...)
    tell(...)
    if #found.broken > 0 then
      found.would = hard and "deny" or "warn"
      found.outcome = mode == "enforce" and found.would or mode == "warn" and "warn" or "allow"
    end
  end
  local budget = not before and job.accelerated and budget_of(values) or nil
  if budget then found.draw = { budget = budget, left = left_of(budget, now) } end
  required(job, values, before, found.tell)
  limited(job, price, now, found.tell)
  if not before then paid(job, values, price, found.draw, found.tell) end
  return found
end

local function price_line(job, decision)
  local price = decision.price
  local said = format("%s × %s", job.gpus and whole(job.gpus) or "an unknown number of", job.model or "cards of an unknown model")
  if not price.hourly then return said .. ": cost unknown, " .. price.basis[1] end
  said = said .. ", " .. dollars(price.hourly) .. " USD an hour"
  if not price.p90 then
    said = said .. ", " .. price.basis[#price.basis]
  elseif price.p50 == price.p90 then
    said = said .. ", " .. dollars(price.p90) .. " USD by its deadline"
  else
    said = said .. ", " .. dollars(price.p50) .. " USD expected, 9 of 10 below " .. dollars(price.p90) .. " USD"
  end
  local draw = decision.draw
  if draw and draw.left then said = said .. "; budget " .. draw.budget.name .. " had " .. dollars_of(draw.left) .. " USD left" end
  return said
end

local function reasons_of(decision)
  local texts = {}
  for _, one in ipairs(decision.broken) do texts[#texts + 1] = one.text end
  return texts
end

local function user(text) slurm.log_user("%s", "gpuledger: " .. text) end

-- Reserves what an admitted job draws. A budget that can't be asked refuses where the policy says so.
local function reserve(decision, now)
  local draw = decision.draw
  if not draw or not decision.price.p90 or decision.outcome == "deny" then return end
  local must = policy.without_store == "deny" and decision.mode == "enforce" and draw.budget.on_exceed == "deny"
  local asked = draw.left ~= nil
  if asked or not must then
    local noted = note(decision.price.p90 * 10000, draw.budget.name, now)
    if not noted then slurm.log_error("gpuledger: %s can't be written", JOURNAL_FILE) end
    asked = asked and noted
  end
  if not asked and must then
    decision.tell(draw.budget.name, format("budget %s of %s can't be asked at the moment", draw.budget.name, draw.budget.owner), "Try again.")
  end
end

local function comment_of(decision)
  local parts = { "decision=" .. decision.outcome }
  if decision.would ~= decision.outcome then parts[#parts + 1] = "would=" .. decision.would end
  if decision.exemption then parts[#parts + 1] = "exemption=" .. decision.exemption end
  for _, name in ipairs(policy.dimensions) do
    if decision.filled[name] then parts[#parts + 1] = name .. "=" .. decision.filled[name] end
  end
  if decision.draw and decision.price.p90 then
    parts[#parts + 1] = "draws_on=" .. decision.draw.budget.name
    parts[#parts + 1] = "reserved_usd=" .. dollars(decision.price.p90)
  end
  return "gpuledger:" .. table.concat(parts, ";")
end

local function submitted(job_desc, part_list, uid)
  local now = os.time()
  refresh(now)
  if not policy then
    user("the policy can't be read. Ask the administrators of this cluster.")
    return slurm.ERROR
  end
  local job = submission_of(job_desc, part_list, uid)
  local decision = decide(job, now)
  if decision.mode == "off" then return slurm.SUCCESS end
  reserve(decision, now)
  if decision.outcome == "deny" then
    user(table.concat(reasons_of(decision), " "))
  elseif decision.outcome == "warn" then
    for _, text in ipairs(reasons_of(decision)) do user(text) end
  end
  if job.accelerated then user(price_line(job, decision)) end
  for _, problem in ipairs(job.problems) do user(problem) end
  for _, text in ipairs(decision.notes) do user(text) end
  if decision.would ~= "allow" then
    slurm.log_info("%s", format("gpuledger: %s (%s, %s): %s", decision.outcome, decision.mode, decision.scope, table.concat(reasons_of(decision), " ")))
  end
  if decision.outcome == "deny" then return slurm.ERROR end
  local stood = given(job_desc.admin_comment)
  if job.accelerated or next(decision.filled) or decision.would ~= "allow" then
    job_desc.admin_comment = (stood and stood .. "; " or "") .. comment_of(decision)
  end
  return slurm.SUCCESS
end

local CHANGED = {
  "account", "comment", "wckey", "partition", "name", "time_limit", "tres_per_node", "tres_per_job", "tres_per_task",
  "tres_per_socket", "min_nodes", "max_nodes", "num_tasks", "ntasks_per_node", "array_inx",
}

-- A change of a queued job is checked for dimensions and limits; root may change everything.
local function modified(job_desc, job_rec, part_list, uid)
  refresh(os.time())
  if uid == 0 or not policy then return slurm.SUCCESS end
  local before, after, changes = { user_name = job_rec.user_name }, { user_name = job_rec.user_name }, false
  for _, field in ipairs(CHANGED) do
    local was, is = job_rec[field], job_desc[field]
    local none = field == "ntasks_per_node" and NONE_SHORT or NONE
    if is == nil or is == "" or (type(is) == "number" and not count(is, none)) then is = nil else changes = true end
    before[field], after[field] = was, is == nil and was or is
  end
  if not changes then return slurm.SUCCESS end
  local job = submission_of(after, part_list, job_rec.user_id)
  local decision = decide(job, os.time(), submission_of(before, part_list, job_rec.user_id).said)
  if decision.outcome ~= "deny" then return slurm.SUCCESS end
  user(table.concat(reasons_of(decision), " "))
  return slurm.ERROR
end

-- A mistake in here must not let jobs pass unseen, nor stop slurmctld.
local function guarded(what, ...)
  local done, answer = pcall(what, ...)
  if done then return answer end
  slurm.log_error("gpuledger: %s", tostring(answer))
  user("the policy can't be applied to this job. Ask the administrators of this cluster.")
  return slurm.ERROR
end

function slurm_job_submit(job_desc, part_list, submit_uid) return guarded(submitted, job_desc, part_list, submit_uid) end
function slurm_job_modify(job_desc, job_rec, part_list, modify_uid) return guarded(modified, job_desc, job_rec, part_list, modify_uid) end
return slurm.SUCCESS
