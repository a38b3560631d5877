// The dashboard is a page of its own in a frame; it follows the theme of the page around it.
const frame = document.querySelector("iframe.dashboard");
const chosen = document.documentElement;
const follow = () => {
  frame.contentDocument.documentElement.dataset.theme = chosen.dataset.theme;
};
frame.addEventListener("load", follow);
new MutationObserver(follow).observe(chosen, { attributeFilter: ["data-theme"] });

// Another choice is another address, without empty parts. A window in place of from–to forgets these.
const form = document.querySelector(".choices form");
const show = () => {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) query.set(name, value);
  if (query.has("from")) query.delete("window");
  location.search = query;
};
form.addEventListener("submit", (event) => { event.preventDefault(); show(); });
form.addEventListener("change", (event) => {
  if (event.target.type === "datetime-local") return; // until the button is pressed
  if (event.target.name === "window") for (const name of ["from", "to"]) form.elements[name].value = "";
  show();
});

// A page whose server has gone would otherwise show old figures as if they were new.
const stale = document.querySelector(".stale");
const after = Number(stale.dataset.after);
let told = "", since = Date.now();
if (after) setInterval(() => {
  const text = frame.contentDocument?.getElementById("updated")?.textContent ?? "";
  if (text !== told) { told = text; since = Date.now(); }
  stale.hidden = Date.now() - since < (4 * after + 20) * 1000;
}, 5000);
