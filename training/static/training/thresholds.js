// The slider on a model's page shows the results of each threshold, counted by training/core/evaluation/operating_points.py.
const section = document.getElementById("thresholds");
const find = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en-US");
const money = (number) => number.toLocaleString("en-US", { maximumFractionDigits: 0 });
const share = (number) => (Number.isFinite(number) ? number.toFixed(4) : "none");

if (section) show(JSON.parse(find("operating-points").textContent));

function show(points) {
  const { thresholds, parts, chosen, block, unit } = points;
  const [part, slider, reviewCost, use] = ["part", "threshold", "review-cost", "use"].map(find);
  const last = thresholds.length - 1;
  slider.max = last;
  reviewCost.value = points.review_cost;
  find("unit").textContent = unit;

  // The results on the chosen rows at the i-th threshold.
  const counts = (i) => {
    const { rows, frauds, alerts, caught, missed } = parts[part.value];
    const falseAlerts = alerts[i] - caught[i];
    return {
      rows, frauds, alerts: alerts[i], caught: caught[i], falseAlerts,
      precision: caught[i] / alerts[i],
      recall: caught[i] / frauds,
      missed: missed?.[i],
      cost: missed ? alerts[i] * reviewCost.valueAsNumber + missed[i] : NaN,
    };
  };
  const every = () => thresholds.map((_, i) => counts(i));
  const nearest = (threshold) => {
    const above = thresholds.findIndex((each) => each >= threshold);
    return above < 0 ? last : above;
  };
  const place = (i) => (1000 * i) / Math.max(last, 1);

  function draw() {
    const path = (name) => every()
      .map((each, i) => (Number.isFinite(each[name]) ? `${place(i).toFixed(1)} ${(200 - 200 * each[name]).toFixed(1)}` : null))
      .filter(Boolean).join("L");
    for (const name of ["precision", "recall"]) section.querySelector(`path.${name}`).setAttribute("d", `M${path(name)}`);
    const line = section.querySelector("line.block");
    find("block-key").hidden = block === null;
    if (block === null) line.remove();
    else move(line, nearest(block));
    update();
  }

  function move(line, i) {
    for (const end of ["x1", "x2"]) line.setAttribute(end, place(i));
  }

  function update() {
    const i = slider.valueAsNumber;
    const now = counts(i);
    const texts = {
      "at": thresholds[i].toPrecision(4),
      "true-negatives": count(now.rows - now.frauds - now.falseAlerts),
      "false-positives": count(now.falseAlerts),
      "false-negatives": count(now.frauds - now.caught),
      "true-positives": count(now.caught),
      "precision": share(now.precision),
      "recall": share(now.recall),
      "false-per-fraud": now.caught ? (now.falseAlerts / now.caught).toFixed(2) : "none caught",
      "alerts-per-1000": ((1000 * now.alerts) / now.rows).toFixed(2),
      "alerts-per-day": points.days[part.value] ? (now.alerts / points.days[part.value]).toFixed(1) : "not known",
      "cost-without": Number.isFinite(now.cost) ? `${money(parts[part.value].fraud_amount)} ${unit} without alerts` : "",
      "cost": Number.isFinite(now.cost) ? `${money(now.cost)} ${unit}` : "amounts are not known",
    };
    for (const [id, text] of Object.entries(texts)) find(id).textContent = text;
    slider.setAttribute("aria-valuetext", `${texts.at}: precision ${texts.precision}, recall ${texts.recall}`);
    move(section.querySelector("line.here"), i);
    if (!use) return;
    use.disabled = part.value !== "validation";
    find("use-help").textContent = use.disabled
      ? "If a threshold is chosen on test rows, no rows are left to evaluate it: choose on validation rows." : "";
  }

  function preset(title, index) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title;
    button.addEventListener("click", () => {
      slider.value = index();
      update();
    });
    find("presets").append(button);
  }

  const titles = new Map(Object.entries(chosen).map(([title, threshold]) => [threshold, title]).reverse());
  for (const [threshold, title] of [...titles].reverse()) preset(`${title}: ${threshold.toPrecision(4)}`, () => nearest(threshold));
  if (parts.validation.missed) {
    preset("lowest cost", () => {
      const costs = every().map((each) => each.cost);
      return costs.indexOf(Math.min(...costs));
    });
  }

  slider.addEventListener("input", update);
  reviewCost.addEventListener("input", update);
  part.addEventListener("change", draw);
  use?.addEventListener("click", () => {
    const field = find("id_review_threshold");
    field.value = thresholds[slider.valueAsNumber];
    const help = find("id_review_threshold_helptext");
    help.textContent = "From the slider: save it to put it to use.";
    help.classList.add("to-be-saved-help");
    field.classList.add("to-be-saved");
    field.focus();
    field.scrollIntoView({ block: "center" });
  });

  section.hidden = false;
  slider.value = nearest(Object.values(chosen)[0]);
  draw();
}
