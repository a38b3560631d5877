// Draws the progress of a training run, and polls it every second while the run is under way.
const INTERVAL_MS = 1000;
const page = document.querySelector(".training-run");
const at = (id) => document.getElementById(id);

const element = (name, attributes, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.textContent = text;
  return made;
};

// Lines by epoch in a frame of 600 by 260; `scale` is applied to the values first.
const draw = (svg, lines, scale, show) => {
  const drawn = lines.map(({ kind, values }) => ({ kind, values: values.filter((value) => value > 0 || scale === Number).map(scale) }));
  const all = drawn.flatMap(({ values }) => values);
  svg.replaceChildren();
  if (all.length < 2) return;
  const epochs = Math.max(...drawn.map(({ values }) => values.length));
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const x = (index) => 50 + (530 * index) / Math.max(1, epochs - 1);
  const y = (value) => 230 - (210 * (value - low)) / (high - low || 1);
  for (const share of [0, 0.5, 1]) {
    const value = low + share * (high - low);
    svg.append(element("line", { class: "grid", x1: 50, x2: 580, y1: y(value), y2: y(value) }));
    svg.append(element("text", { x: 44, y: y(value) + 4, "text-anchor": "end" }, show(value)));
  }
  svg.append(element("text", { x: 50, y: 250 }, "epoch 1"));
  svg.append(element("text", { x: 580, y: 250, "text-anchor": "end" }, `epoch ${epochs}`));
  for (const { kind, values } of drawn) {
    const points = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    svg.append(element("polyline", { class: kind, points }));
  }
  const latest = drawn.at(-1).values;
  svg.append(element("circle", { cx: x(latest.length - 1), cy: y(latest.at(-1)), r: 4 }));
};

const show = (progress) => {
  const { loss = [], val_loss: validation = [], val_auprc: auprc = [] } = progress.history;
  at("state").textContent = progress.state_title;
  at("state").className = `stage ${progress.state}`;
  at("epoch").textContent = loss.length ? `epoch ${loss.length} of at most ${progress.epochs}` : "";
  at("seconds").textContent = progress.seconds === null ? "" : `${progress.seconds} s`;
  at("progress").value = progress.state === "done" ? progress.epochs : loss.length;
  at("waits").hidden = progress.state !== "queued";
  at("failure").hidden = !progress.failure;
  at("failure").textContent = progress.failure;
  at("result").hidden = !progress.version;
  at("version").textContent = progress.version || "";
  at("version").href = progress.version_url || "#";
  at("worker").textContent = progress.worker || "-";
  if (!progress.active) at("cancel")?.remove();
  draw(at("loss"), [{ kind: "training", values: loss }, { kind: "validation", values: validation }], Math.log10, (value) => (10 ** value).toPrecision(2));
  draw(at("auprc"), [{ kind: "validation", values: auprc }], Number, (value) => value.toFixed(3));
};

const follow = async (progress) => {
  show(progress);
  if (!progress.active) return;
  await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  try {
    const response = await fetch(page.dataset.progress);
    if (response.redirected || response.status === 403) return; // logged out
    if (response.ok) progress = await response.json();
  } catch {
    // The site is away for a moment: poll again.
  }
  follow(progress);
};

follow(JSON.parse(at("progress-data").textContent));
