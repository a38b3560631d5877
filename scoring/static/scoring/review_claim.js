// While the page of an open review is visible, renew its claim; when the page is left, end it. And open the dialogs
// that pass the review on.
const claim = document.getElementById("claim");
const everyMs = Number(claim?.dataset.everyMs);
let until = claim?.dataset.until;
let timer = null;

const send = () => {
  const fields = new FormData();
  fields.set("csrfmiddlewaretoken", document.querySelector("[name=csrfmiddlewaretoken]").value);
  if (until) fields.set("until", until);
  return fields;
};

const show = ({ mine, message }) => {
  claim.hidden = mine;
  claim.querySelector("span").textContent = message;
  const takeOver = document.querySelector(".pass-on button[value=take_over]");
  if (takeOver) takeOver.hidden = mine;
};

const renew = async () => {
  if (document.hidden) return;
  try {
    const response = await fetch(claim.dataset.renew, { method: "POST", body: send() });
    if (response.redirected || response.status === 403) clearInterval(timer); // logged out
    else if (response.ok) {
      const told = await response.json();
      until = told.until;
      show(told);
    }
  } catch {
    // The site is away for a moment: the next one renews it.
  }
};

if (everyMs) {
  timer = setInterval(renew, everyMs);
  document.addEventListener("visibilitychange", renew);
  addEventListener("pagehide", () => {
    if (until) navigator.sendBeacon(claim.dataset.leave, send());
  });
  // A page that the browser brings back from its memory claims again.
  addEventListener("pageshow", ({ persisted }) => persisted && renew());
}

for (const button of document.querySelectorAll("[data-opens]")) {
  button.addEventListener("click", () => document.getElementById(button.dataset.opens).showModal());
}
