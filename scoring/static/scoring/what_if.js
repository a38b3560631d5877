// What other thresholds would do: adds up the bins that scoring/policies/what_if.py counted, and draws the results.
// A group of transactions is [number, frauds, amount of the frauds, sum of its squares].
const NAMES = ["challenge", "review", "block"];
const FATES = ["approve", "challenge", "review", "block"];
const Z = 1.959964;

document.addEventListener("DOMContentLoaded", () => {
  const stored = document.getElementById("what-if-data");
  if (stored) whatIf(JSON.parse(stored.textContent));
});

const plus = (one, other, sign = 1) => one.map((value, place) => value + sign * other[place]);
const nothing = () => [0, 0, 0, 0];

// Wilson, Probable inference, the law of succession, and statistical inference, 1927.
function wilson(part, whole) {
  if (!whole) return null;
  const share = part / whole;
  const middle = share + (Z * Z) / (2 * whole);
  const half = Z * Math.sqrt((share * (1 - share)) / whole + (Z * Z) / (4 * whole * whole));
  const scale = 1 + (Z * Z) / whole;
  return [Math.max(0, (middle - half) / scale), Math.min(1, (middle + half) / scale)];
}

// Byar's approximation of the exact interval of a Poisson count; Breslow and Day, Statistical Methods in Cancer
// Research II, 1987.
function poisson(count) {
  const low = count ? count * (1 - 1 / (9 * count) - Z / (3 * Math.sqrt(count))) ** 3 : 0;
  const next = count + 1;
  return [Math.max(0, low), next * (1 - 1 / (9 * next) + Z / (3 * Math.sqrt(next))) ** 3];
}

function whatIf(data) {
  const find = (id) => document.getElementById(id);
  const { edges, days } = data;
  const off = edges.length;
  const perDay = days ?? 1;
  const number = (value, decimals = 1) =>
    value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  const count = (value) => number(value, value !== 0 && value < 10 ? 2 : value < 1000 ? 1 : 0);
  const money = (value) => `${number(value, Math.abs(value) < 1000 ? data.decimals : 0)} ${data.unit}`;
  const share = (value) => (Number.isFinite(value) ? `${number(100 * value)} %` : "none");
  const told = (place) => (place >= off ? "off" : edges[place].toPrecision(4).replace(/\.?0+$/, ""));
  const titled = (name) => name || (data.parts.length > 1 ? "all others" : "all");
  document.querySelectorAll(".per-day").forEach((each) => (each.textContent = days ? "a day" : "in all"));

  // Of each part: the group of the bins from each place on.
  const above = Object.fromEntries(
    data.parts.map((part) => {
      const sums = [nothing()];
      for (let place = off - 1; place >= 0; place--) sums.push(plus(sums.at(-1), part.bins[place] ?? nothing()));
      return [part.name, sums.reverse()];
    }),
  );
  const copy = (set) => Object.fromEntries(Object.entries(set).map(([name, own]) => [name, { ...own }]));
  const live = Object.fromEntries(data.parts.map((part) => [part.name, part.own]));
  let chosen = copy(live);
  let scope = "";
  let costs = {};

  // The thresholds that hold in a part, as Document.thresholds in scoring/policies/document.py has them.
  function holding(set, name) {
    const [of, policy] = [set[name], set[""]];
    let review = of.review ?? policy.review;
    let block = of.block ?? policy.block ?? off;
    const modelBlocks = data.blockIsModels && policy.block === live[""].block && (name === "" || of.block === null);
    if (modelBlocks) block = Math.max(review, block);
    else review = Math.min(review, block);
    return { review, block, challenge: Math.min(of.challenge ?? policy.challenge ?? off, review) };
  }

  function fates(set, part) {
    const { challenge, review, block } = holding(set, part.name);
    const sums = above[part.name];
    const byScore = {
      approve: plus(sums[0], sums[challenge], -1),
      challenge: plus(sums[challenge], sums[review], -1),
      review: plus(sums[review], sums[block], -1),
      block: sums[block],
    };
    for (const [fate, group] of Object.entries(part.fixed)) byScore[fate] = plus(byScore[fate], group);
    return byScore;
  }

  function results(set, parts = data.parts) {
    const sum = Object.fromEntries(FATES.map((fate) => [fate, nothing()]));
    for (const part of parts) {
      for (const [fate, group] of Object.entries(fates(set, part))) sum[fate] = plus(sum[fate], group);
    }
    return figures(sum);
  }

  function figures(sum) {
    const stopped = { approve: 0, challenge: costs.stopped / 100, review: 1, block: 1 };
    const handling = { approve: 0, challenge: 0, review: costs.review, block: costs.review };
    const falseCost = { approve: 0, challenge: costs.challenged, review: costs.reviewed, block: costs.blocked };
    const [rate, fixed] = [costs.missed / 100, costs.fixed];
    const found = { saved: 0, lost: 0, cost: 0, spread: 0, ofSaved: 0, ofLost: 0, rows: 0, frauds: 0 };
    for (const fate of FATES) {
      const [rows, frauds, amount, square] = sum[fate];
      const loss = rate * amount + fixed * frauds;
      const squares = rate * rate * square + 2 * rate * fixed * amount + fixed * fixed * frauds;
      const [part, each, wrong] = [stopped[fate], handling[fate], handling[fate] + falseCost[fate]];
      found.saved += part * loss;
      found.lost += (1 - part) * loss;
      found.cost += each * frauds + wrong * (rows - frauds);
      found.ofSaved += part * part * squares;
      found.ofLost += (1 - part) ** 2 * squares;
      found.spread += part * part * squares - 2 * part * each * loss + each * each * frauds + wrong * wrong * (rows - frauds);
      found.rows += rows;
      found.frauds += frauds;
    }
    const alerts = plus(sum.review, sum.block);
    return {
      ...found, sum, alerts: alerts[0], caught: alerts[1], gain: found.saved - found.cost,
      precision: alerts[1] / alerts[0], recall: alerts[1] / found.frauds,
    };
  }

  const scaled = (range) => range && range.map((value) => value / perDay);
  const around = (value, squares) => [value - Z * Math.sqrt(squares), value + Z * Math.sqrt(squares)];

  // The review threshold of what the sliders are about, moved to each place in turn.
  function curve() {
    const set = copy(chosen);
    const found = [];
    for (let place = 1; place < off; place++) {
      set[scope].review = place;
      set[scope].block = chosen[scope].block === null ? null : Math.max(place, chosen[scope].block);
      found.push({ place, ...results(set) });
    }
    return found;
  }

  // --- dials: a number and a slider that follow each other ------------------------------------------------------------
  function dial(parent, id, title, { min, max, step, read, write, text, onMove, hint = "" }) {
    const row = document.createElement("div");
    row.className = "dial";
    row.innerHTML = `<label for="${id}-number"></label><input type="number" id="${id}-number" min="0" step="any"><input type="range" id="${id}" min="${min}" max="${max}" step="${step}">`;
    const [label, field, slider] = row.children;
    label.textContent = title;
    slider.setAttribute("aria-label", title);
    if (hint) row.title = hint;
    const show = (value, keep) => {
      slider.value = value;
      slider.setAttribute("aria-valuetext", text(value));
      if (field !== keep) field.value = write(value);
      field.placeholder = text(value);
    };
    slider.addEventListener("input", () => {
      onMove(slider.valueAsNumber);
      show(slider.valueAsNumber);
    });
    field.addEventListener("input", () => {
      if (!Number.isFinite(field.valueAsNumber) || field.valueAsNumber < 0) return;
      onMove(read(field.valueAsNumber));
      show(read(field.valueAsNumber), field);
    });
    parent.append(row);
    return { show, row, slider };
  }

  const nearest = (value) => {
    const after = edges.findIndex((edge) => edge >= value);
    if (after <= 0) return after < 0 ? off - 1 : 1;
    return Math.max(1, edges[after] - value < value - edges[after - 1] ? after : after - 1);
  };
  const dials = Object.fromEntries(
    NAMES.map((name) => [
      name,
      dial(find("threshold-dials"), `dial-${name}`, `${name[0].toUpperCase()}${name.slice(1)} from`, {
        min: 1, max: name === "review" ? off - 1 : off, step: 1,
        read: nearest, write: (place) => (place >= off ? "" : told(place)), text: told,
        onMove: (place) => move(name, place),
      }),
    ]),
  );

  // A threshold that meets another one pushes it along.
  function move(name, place) {
    const own = chosen[scope];
    const now = holding(chosen, scope);
    own[name] = place >= off ? null : place;
    if (name === "review" && now.block < place) own.block = place;
    if (name === "block" && now.review > place) own.review = place;
    const challenge = own.challenge ?? chosen[""].challenge ?? off;
    if (name !== "challenge" && challenge < off && challenge > (own.review ?? off)) own.challenge = own.review;
    if (name === "challenge" && place < off && now.review < place) {
      own.review = place;
      if (now.block < place) own.block = place;
    }
    update(name);
  }

  const store = `what-if costs ${location.pathname}`;
  const kept = JSON.parse(localStorage.getItem(store) ?? "{}");
  const costDials = [
    ["missed", "A missed fraud, % of its amount", 100, 200, 1],
    ["fixed", "A missed fraud, besides", 0, 200, 1],
    ["blocked", "An honest payment blocked", 10, 100, 0.5],
    ["reviewed", "An honest payment under review", 0, 100, 0.5],
    ["challenged", "An honest payment challenged", 0.5, 100, 0.5],
    ["stopped", "Frauds that a challenge stops, %", 90, 100, 1],
    ["review", "The work of a review", data.reviewCost, Math.max(50, 4 * data.reviewCost), 0.1],
  ].map(([name, title, initial, max, step]) => {
    costs[name] = kept[name] ?? initial;
    const made = dial(find("cost-dials"), `cost-${name}`, title, {
      min: 0, max, step, read: (value) => value, write: (value) => value, text: (value) => String(value),
      onMove: (value) => {
        costs[name] = value;
        localStorage.setItem(store, JSON.stringify(costs));
        update();
      },
    });
    made.show(costs[name]);
    return [name, made];
  });

  // --- plots ------------------------------------------------------------------------------------------------------
  const [width, height, left, right, top, bottom] = [420, 260, 52, 410, 10, 228];

  function draw(id, { x, y, xTicks, yTicks, xTitle, marks, label }) {
    const svg = find(id);
    const parts = [];
    const add = (name, attributes, text = "") => parts.push([name, attributes, text]);
    for (const [value, text] of yTicks) {
      add("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) });
      add("text", { class: "tick end", x: left - 6, y: y(value) + 4 }, text);
    }
    for (const [value, text] of xTicks) {
      add("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: bottom });
      add("text", { class: "tick middle", x: x(value), y: bottom + 14 }, text);
    }
    add("text", { class: "tick middle", x: (left + right) / 2, y: height - 3 }, xTitle);
    marks(add);
    svg.replaceChildren(
      ...parts.map(([name, attributes, text]) => {
        const made = document.createElementNS("http://www.w3.org/2000/svg", name);
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        made.textContent = text;
        return made;
      }),
    );
    svg.setAttribute("aria-label", label);
  }

  const linear = (from, to, start, end) => (value) =>
    start + ((Math.min(Math.max(value, Math.min(from, to)), Math.max(from, to)) - from) / (to - from || 1)) * (end - start);
  const line = (points) => points.length ? `M${points.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L")}` : "";
  const shares = [[0, "0"], [0.25, "25"], [0.5, "50"], [0.75, "75"], [1, "100 %"]];
  const atPlace = linear(1, off - 1, left, right);
  const placeTicks = [0.01, 0.25, 0.5, 0.75, 0.99].map((value) => [nearest(value), String(value)]);

  function drawQuality(points, before, after) {
    const [x, y] = [linear(0, 1, left, right), linear(0, 1, bottom, top)];
    const known = points.filter((point) => Number.isFinite(point.precision) && Number.isFinite(point.recall));
    draw("plot-quality", {
      x, y, xTicks: shares, yTicks: shares, xTitle: "recall",
      label: `Precision ${share(after.precision)} at recall ${share(after.recall)}; live ${share(before.precision)} at ${share(before.recall)}.`,
      marks: (add) => {
        add("path", { class: "curve", d: line(known.map((point) => [x(point.recall), y(point.precision)])) });
        const [high, wide] = [wilson(after.caught, after.alerts), wilson(after.caught, after.frauds)];
        if (high && wide) {
          add("path", { class: "range", d: line([[x(after.recall), y(high[0])], [x(after.recall), y(high[1])]]) });
          add("path", { class: "range", d: line([[x(wide[0]), y(after.precision)], [x(wide[1]), y(after.precision)]]) });
        }
        for (const [kind, found] of [["live", before], ["chosen", after]]) {
          if (Number.isFinite(found.precision) && Number.isFinite(found.recall)) {
            add("circle", { class: kind, cx: x(found.recall), cy: y(found.precision), r: kind === "live" ? 7 : 5 });
          }
        }
      },
    });
  }

  const steps = (low, high) => {
    const size = 10 ** Math.floor(Math.log10((high - low || 1) / 2));
    const step = [1, 2, 5, 10].map((factor) => factor * size).find((each) => (high - low) / each <= 5);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value + 0); // never -0
    return found;
  };
  const short = (value) => value.toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 2 });

  function upright(add, before, after, x = atPlace) {
    add("line", { class: "live", x1: x(before), x2: x(before), y1: top, y2: bottom });
    add("line", { class: "chosen", x1: x(after), x2: x(after), y1: top, y2: bottom });
  }

  function drawMoney(points, before, after, at) {
    const gains = points.map((point) => point.gain / perDay);
    const high = Math.max(...gains, before.gain / perDay, 0);
    // Far below, where nearly everything is an alert, the curve would hide where it matters.
    const low = Math.max(Math.min(...gains, 0), -Math.max(high, 1e-9) * 0.6);
    const y = linear(low, high * 1.08 || 1, bottom, top);
    const band = points.map((point) => [atPlace(point.place), ...scaled(around(point.gain, point.spread))]);
    draw("plot-money", {
      x: atPlace, y, xTicks: placeTicks, yTicks: steps(low, high).map((value) => [value, short(value)]), xTitle: "review threshold",
      label: `Gain ${money(after.gain / perDay)}; live ${money(before.gain / perDay)}.`,
      marks: (add) => {
        const outline = [...band.map(([x, from]) => [x, y(from)]), ...band.toReversed().map(([x, , to]) => [x, y(to)])];
        add("path", { class: "band", d: `${line(outline)}Z` });
        add("path", { class: "curve", d: line(points.map((point) => [atPlace(point.place), y(point.gain / perDay)])) });
        upright(add, ...at);
        add("circle", { class: "chosen", cx: atPlace(at[1]), cy: y(after.gain / perDay), r: 5 });
      },
    });
  }

  function drawAlerts(points, before, after, at, capacity) {
    const most = Math.max(1, ...points.map((point) => point.alerts / perDay), capacity ?? 0);
    const least = Math.min(1, 1 / perDay);
    const y = (value) => linear(Math.log10(least), Math.log10(most), bottom, top)(Math.log10(Math.max(value, least)));
    const ticks = [];
    for (let power = Math.ceil(Math.log10(least)); power <= Math.log10(most); power++) ticks.push([10 ** power, short(10 ** power)]);
    draw("plot-alerts", {
      x: atPlace, y, xTicks: placeTicks, yTicks: ticks, xTitle: "review threshold",
      label: `${count(after.alerts / perDay)} alerts; live ${count(before.alerts / perDay)}.`,
      marks: (add) => {
        add("path", { class: "curve", d: line(points.map((point) => [atPlace(point.place), y(point.alerts / perDay)])) });
        if (capacity) add("line", { class: "capacity", x1: left, x2: right, y1: y(capacity), y2: y(capacity) });
        upright(add, ...at);
        add("circle", { class: "chosen", cx: atPlace(at[1]), cy: y(after.alerts / perDay), r: 5 });
      },
    });
  }

  // --- numbers ------------------------------------------------------------------------------------------------------
  function fill(table, rows) {
    find(table).tBodies[0].replaceChildren(
      ...rows.map(([head, ...cells]) => {
        const row = document.createElement("tr");
        const first = document.createElement("th");
        first.scope = "row";
        first.textContent = head;
        row.append(first);
        for (const text of cells) row.insertCell().textContent = text;
        return row;
      }),
    );
  }

  const range = (values, write) => (values ? `${write(values[0])} to ${write(values[1])}` : "");
  const daily = days ? " a day" : "";

  function showTiles(before, after) {
    const tiles = [
      ["Precision", share(after.precision), share(before.precision)],
      ["Recall", share(after.recall), share(before.recall)],
      [`Alerts${daily}`, count(after.alerts / perDay), count(before.alerts / perDay)],
      [`Gain${daily}`, ...(data.hasAmounts ? [after, before].map((found) => money(found.gain / perDay)) : ["not known", "not known"])],
    ];
    find("tiles").replaceChildren(
      ...tiles.map((texts) => {
        const tile = document.createElement("div");
        for (const [place, name] of ["dt", "dd", "dd"].entries()) {
          const part = document.createElement(name);
          part.textContent = place === 2 ? `live ${texts[place]}` : texts[place];
          tile.append(part);
        }
        return tile;
      }),
    );
  }

  function showFigures(before, after) {
    const counts = (title, of) => [
      title + daily, count(of(before) / perDay), count(of(after) / perDay), range(scaled(poisson(of(after))), count),
    ];
    const sums = (title, name, spread) => data.hasAmounts
      ? [title + daily, money(before[name] / perDay), money(after[name] / perDay), range(scaled(around(after[name], after[spread])), money)]
      : [title, "amounts are not known", "", ""];
    const challenges = before.sum.challenge[0] || after.sum.challenge[0];
    fill("figures", [
      ["Precision of alerts", share(before.precision), share(after.precision), range(wilson(after.caught, after.alerts), share)],
      ["Recall of alerts", share(before.recall), share(after.recall), range(wilson(after.caught, after.frauds), share)],
      counts("Alerts", (found) => found.alerts),
      counts("Blocked", (found) => found.sum.block[0]),
      counts("Reviewed", (found) => found.sum.review[0]),
      ...(challenges ? [counts("Challenged", (found) => found.sum.challenge[0])] : []),
      sums("Fraud stopped", "saved", "ofSaved"),
      sums("Fraud lost", "lost", "ofLost"),
      [`Cost of alerts${daily}`, money(before.cost / perDay), money(after.cost / perDay), ""],
      sums("Gain", "gain", "spread"),
    ]);
    fill("segments", data.parts.map((part) => {
      const [was, now] = [results(live, [part]), results(chosen, [part])];
      const { review, block } = holding(chosen, part.name);
      const shareOf = (whole) => `${share(now.caught / whole)}${whole ? `\n${range(wilson(now.caught, whole), share)}` : ""}`;
      return [
        titled(part.name), told(review), told(block), count(was.alerts / perDay), count(now.alerts / perDay),
        shareOf(now.alerts), shareOf(now.frauds), data.hasAmounts ? money(now.gain / perDay) : "",
      ];
    }));
  }

  const capacityField = find("capacity");
  let capacityMoved = false;
  const capacity = () => (capacityField.valueAsNumber > 0 ? capacityField.valueAsNumber : null);
  const fitting = (points) => points.find((point) => point.alerts / perDay <= capacity());

  function showPlan(points, after) {
    const [can, alerts] = [capacity(), after.alerts / perDay];
    const texts = [];
    if (can && !days) texts.push("It is not known how many days these rows are, so no threshold can be fitted.");
    find("fit").disabled = !can || !days;
    if (can && days) {
      const waiting = alerts - can;
      texts.push(waiting > 0
        ? `As chosen, ${count(alerts)} alerts come a day, and ${count(waiting)} of them would wait.`
        : `As chosen, ${count(alerts)} alerts come a day, and none would wait: ${number((100 * alerts) / can, 0)} % of what can be done.`);
      const fit = fitting(points);
      texts.push(fit
        ? `${count(can)} fit with a review threshold of ${told(fit.place)}, which gives ${count(fit.alerts / perDay)}.`
        : "No review threshold fits, as rules, lists or other segments alone give more.");
      find("fit").disabled = !fit;
    }
    if (can && data.waiting) texts.push(`${number(data.waiting, 0)} reviews wait now: ${number(data.waiting / can)} days of work.`);
    find("plan").textContent = texts.join(" ");
    capacityField.closest(".plan").classList.toggle("over", Boolean(can && days && alerts > can));
  }

  function showMoves() {
    if (!find("wish")) return;
    const moves = {};
    const lines = [];
    for (const part of data.parts) {
      for (const name of NAMES) {
        const [was, now] = [live[part.name][name], chosen[part.name][name]];
        if (was === now) continue;
        (moves[part.name] ??= {})[name] = now === null ? null : edges[now];
        const words = (place) => (place === null ? (part.name ? "as the policy's" : "off") : told(place));
        lines.push(`${part.name ? `${part.name}: ` : ""}${name} ${words(was)} → ${words(now)}`);
      }
    }
    const can = capacityMoved ? capacity() : data.capacity;
    if (can !== data.capacity) lines.push(`reviews a day ${data.capacity ?? "not known"} → ${can ?? "not known"}`);
    find("wish").value = JSON.stringify({ moves, capacity: can });
    find("make").disabled = !lines.length;
    find("moves").replaceChildren(
      ...(lines.length ? lines : ["Nothing differs from what is live yet."]).map((text) => {
        const item = document.createElement("li");
        item.textContent = text;
        return item;
      }),
    );
  }

  let points = [];
  function update(moved = "") {
    const [before, after] = [results(live), results(chosen)];
    points = curve();
    const now = holding(chosen, scope);
    for (const name of NAMES) {
      const typed = document.activeElement?.id === `dial-${name}-number` && name === moved;
      const place = name === "challenge" ? chosen[scope].challenge ?? chosen[""].challenge ?? off : now[name];
      if (!typed) dials[name].show(place);
    }
    const at = [holding(live, scope).review, now.review];
    drawQuality(points, before, after);
    drawMoney(points, before, after, at);
    drawAlerts(points, before, after, at, days ? capacity() : null);
    showTiles(before, after);
    showFigures(before, after);
    showPlan(points, after);
    showMoves();
    find("as-policy").hidden = !scope;
    find("best").disabled = !data.hasAmounts;
  }

  // --- controls -----------------------------------------------------------------------------------------------------
  for (const part of data.parts) find("scope").add(new Option(titled(part.name), part.name));
  find("scope-row").hidden = find("by-segment").hidden = data.parts.length === 1;
  find("scope").addEventListener("change", () => {
    scope = find("scope").value;
    update();
  });
  find("as-policy").addEventListener("click", () => {
    chosen[scope] = { review: null, block: null, challenge: null };
    update();
  });
  find("reset").addEventListener("click", () => {
    chosen = copy(live);
    update();
  });
  find("best").addEventListener("click", () => {
    const most = Math.max(...points.map((point) => point.gain));
    move("review", points.findLast((point) => point.gain === most).place);
  });
  find("fit").addEventListener("click", () => move("review", fitting(points).place));
  const factors = ["analysts", "per-hour", "hours"].map(find);
  const product = () => factors.reduce((found, field) => found * (field.valueAsNumber || 0), 1);
  capacityField.value = data.capacity ?? product();
  factors.forEach((field) => field.addEventListener("input", () => {
    capacityField.value = Number(product().toFixed(1));
    capacityMoved = true;
    update();
  }));
  capacityField.addEventListener("input", () => {
    capacityMoved = true;
    update();
  });
  // Without a block threshold of the model, a policy cannot take one back to none once it is the policy's own; and the
  // model's cannot be turned off.
  if (live[""].block !== null) dials.block.slider.max = off - 1;
  find("what-if-body").hidden = false;
  update();
}
