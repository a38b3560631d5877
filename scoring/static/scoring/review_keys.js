// The keys of the review queue and of a review's page. The page's help, on "?", lists them.
const help = document.getElementById("keys");
const decide = document.querySelector(".decide:not(.correct)");
const code = decide?.querySelector("select[name=code]");
const note = decide?.querySelector("input[name=note]");
const choices = decide?.querySelector(".choices");
const rows = [...document.querySelectorAll("#result_list tbody tr")];
const buttonOf = (word) => decide.querySelector(`button[value=${word}]`);
const fits = (option, word) => option.value && ["", word].includes(option.dataset.for);

let asked = null; // the decision that waits for its reason: "fraud" or "legitimate"
let left = false; // the page is being left: a further key must not decide the next alert

const press = (element) => {
  left = true;
  element.click();
};

const stopAsking = () => {
  asked = null;
  choices.hidden = true;
};

const finish = () => {
  const chosen = code?.selectedOptions[0];
  if (chosen && "needsNote" in chosen.dataset && !note.value.trim()) note.focus();
  else press(buttonOf(asked));
};

const optionsFor = (word) => [...(code?.options ?? [])].filter((option) => fits(option, word));

const ask = (word) => {
  asked = word;
  const options = optionsFor(word);
  if (options.length === 0 || fits(code.selectedOptions[0], word)) {
    finish();
    return;
  }
  choices.replaceChildren(
    ...options.slice(0, 9).map((option) => {
      const item = document.createElement("li");
      item.textContent = option.textContent;
      return item;
    }),
  );
  if (!("reasonRequired" in decide.dataset)) {
    const item = choices.appendChild(document.createElement("div"));
    item.textContent = "Enter: without a reason. Esc: back.";
  }
  choices.hidden = false;
};

const answer = (key) => {
  if (key === "Escape") stopAsking();
  else if (key === "Enter" && !("reasonRequired" in decide.dataset)) press(buttonOf(asked));
  else if (/^[1-9]$/.test(key) && optionsFor(asked)[key - 1]) {
    code.value = optionsFor(asked)[key - 1].value;
    finish();
  } else return false;
  return true;
};

const currentRow = () => rows.findIndex((row) => row.contains(document.activeElement));
const goTo = (place) => rows[Math.max(0, Math.min(place, rows.length - 1))]?.querySelector("th a, td a")?.focus();

const label = (action) => {
  const form = document.getElementById("changelist-form");
  const tick = (row) => row.querySelector(".action-select");
  if (!rows.some((row) => tick(row)?.checked)) {
    if (currentRow() < 0) return;
    tick(rows[currentRow()]).click();
  }
  form.querySelector("select[name=action]").value = action;
  press(form.querySelector("button[name=index]"));
};

const inQueue = {
  ArrowDown: () => goTo(currentRow() + 1),
  ArrowUp: () => goTo(currentRow() - 1),
  x: () => rows[currentRow()]?.querySelector(".action-select")?.click(),
  f: () => label("confirm_fraud"),
  l: () => label("mark_legitimate"),
  "/": () => document.getElementById("searchbar")?.focus(),
};

const onPage = {
  f: () => ask("fraud"),
  l: () => ask("legitimate"),
  s: () => buttonOf("skip") && press(buttonOf("skip")),
  n: () => note.focus(),
  b: () => {
    const also = decide.querySelector("select[name=also]");
    if (also) also.value = also.value ? "" : (also.dataset.block ?? also.options[1].value);
  },
};

const everywhere = {
  "?": () => help.showModal(),
  u: () => {
    const undo = document.querySelector(".undo button");
    if (undo) press(undo);
  },
};

const actionOf = (key) => {
  const here = rows.length ? inQueue : decide ? onPage : {};
  const name = `[data-key=${CSS.escape(key)}]:not([hidden])`;
  const named = document.querySelector(`a${name}, .pass-on button${name}`);
  // A button that opens a dialog does not leave the page.
  return here[key] || everywhere[key] || (named && (() => (named.dataset.opens ? named.click() : press(named))));
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing || left) return;
  if (document.querySelector("dialog[open]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.target.matches("input:not([type=checkbox]), select, textarea")) {
    if (!["Enter", "Escape"].includes(key) || event.target !== note) return;
    event.preventDefault();
    if (key === "Enter" && asked) finish();
    else note.blur();
    return;
  }
  if (asked && answer(key)) {
    event.preventDefault();
    return;
  }
  const action = actionOf(key);
  if (!help || !action) return;
  event.preventDefault();
  action();
});

decide?.querySelector(".help")?.addEventListener("click", () => help.showModal());
// A page that the browser brings back from its memory takes keys again.
addEventListener("pageshow", () => (left = false));
