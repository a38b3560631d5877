// The editor of expressions: completes names, shows faults while one writes, and the latest transactions that match.
const CHECK_AFTER_MS = 400;
const SHOWN = 8;

document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("policy");
  const form = document.getElementById("policy-form");
  if (!page || !form) return;
  const names = JSON.parse(document.getElementById("names").textContent);
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  const ask = (address, expression) =>
    fetch(address, { method: "POST", headers: { "X-CSRFToken": token }, body: new URLSearchParams({ expression }) });

  const make = (name, attributes = {}, text = "") => {
    const made = document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.textContent = text;
    return made;
  };

  const showMatches = async (area) => {
    const title = area.closest(".row").querySelector("input").value;
    document.getElementById("matches").hidden = false;
    document.getElementById("matched-rule").textContent = title;
    const body = document.getElementById("matches-body");
    body.textContent = "…";
    const answer = await ask(page.dataset.matches, area.value).catch(() => null);
    if (answer?.ok) body.innerHTML = await answer.text();
    else body.textContent = "The server did not answer.";
    document.getElementById("matches").scrollIntoView({ block: "nearest" });
  };

  const equip = (area, number) => {
    const list = make("ul", { class: "names", role: "listbox", id: `names-${number}`, hidden: "" });
    const fault = make("p", { class: "fault live", "aria-live": "polite" });
    const button = make("button", { type: "button", class: "button quiet-button" }, "Show what matches");
    area.after(list, fault, button);
    area.setAttribute("role", "combobox");
    area.setAttribute("aria-expanded", "false");
    area.setAttribute("aria-controls", list.id);
    button.addEventListener("click", () => showMatches(area));
    let chosen = 0;
    let timer = 0;

    const word = () => area.value.slice(0, area.selectionStart).match(/[A-Za-z_][A-Za-z0-9_]*$/)?.[0] ?? "";
    const close = () => {
      list.hidden = true;
      area.setAttribute("aria-expanded", "false");
    };
    const mark = (index) => {
      chosen = (index + list.children.length) % list.children.length;
      [...list.children].forEach((item, place) => item.setAttribute("aria-selected", String(place === chosen)));
      area.setAttribute("aria-activedescendant", list.children[chosen].id);
    };
    const take = (name) => {
      const end = area.selectionStart;
      area.setRangeText(name, end - word().length, end, "end");
      close();
      area.dispatchEvent(new Event("input"));
      close();
    };
    const offer = () => {
      const begun = word().toLowerCase();
      const fitting = begun
        ? names.filter(([name]) => name.toLowerCase().includes(begun) && name.toLowerCase() !== begun)
        : [];
      fitting.sort(([one], [other]) => other.toLowerCase().startsWith(begun) - one.toLowerCase().startsWith(begun));
      list.replaceChildren(
        ...fitting.slice(0, SHOWN).map(([name, type, meaning], place) => {
          const item = make("li", { role: "option", id: `${list.id}-${place}` });
          item.append(make("b", {}, name), make("span", { class: "type" }, ` ${type} `), make("span", {}, meaning));
          item.addEventListener("mousedown", (event) => {
            event.preventDefault();
            take(name);
          });
          item.dataset.name = name;
          return item;
        }),
      );
      list.hidden = !list.children.length;
      area.setAttribute("aria-expanded", String(!list.hidden));
      if (!list.hidden) mark(0);
    };
    const check = async () => {
      const source = area.value;
      const answer = source.trim() ? await ask(page.dataset.check, source).catch(() => null) : null;
      if (source !== area.value) return; // written on meanwhile
      const [first] = answer?.ok ? (await answer.json()).faults : [];
      area.parentElement.querySelectorAll(".fault:not(.live)").forEach((old) => old.remove());
      fault.textContent = first ? `Line ${first.line}, column ${first.column}: ${first.message}` : "";
      area.setAttribute("aria-invalid", String(Boolean(first)));
    };

    area.addEventListener("input", () => {
      offer();
      clearTimeout(timer);
      timer = setTimeout(check, CHECK_AFTER_MS);
    });
    area.addEventListener("blur", close);
    area.addEventListener("keydown", (event) => {
      if (list.hidden) return;
      if (event.key === "ArrowDown") mark(chosen + 1);
      else if (event.key === "ArrowUp") mark(chosen - 1);
      else if (event.key === "Enter" || event.key === "Tab") take(list.children[chosen].dataset.name);
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
    });
  };
  form.querySelectorAll("textarea.expression").forEach(equip);
});
