// Swagger UI has a dark style of its own, under a class: it follows what was chosen in the admin, or the system.
const system = matchMedia("(prefers-color-scheme: dark)");
const follow = () => {
  const chosen = localStorage.getItem("theme") || "auto";
  document.documentElement.classList.toggle("dark-mode", chosen === "dark" || (chosen === "auto" && system.matches));
};
follow();
system.addEventListener("change", follow);
addEventListener("storage", follow);
