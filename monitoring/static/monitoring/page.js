// The dashboard is a page of its own in a frame; it follows the theme of the page around it.
const frame = document.querySelector("iframe.dashboard");
const chosen = document.documentElement;
const follow = () => {
  frame.contentDocument.documentElement.dataset.theme = chosen.dataset.theme;
};
frame.addEventListener("load", follow);
new MutationObserver(follow).observe(chosen, { attributeFilter: ["data-theme"] });
