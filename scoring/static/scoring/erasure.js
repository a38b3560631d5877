// Shows the progress of an erasure, and loads the page again when its state changes.
document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("erasure");
  if (!page) return;
  const number = (value) => value.toLocaleString("en");
  const poll = async () => {
    const answer = await fetch(page.dataset.progress).catch(() => null);
    if (answer?.ok) {
      const progress = await answer.json();
      if (progress.state !== page.dataset.state) return location.reload();
      document.getElementById("looked-at").textContent = number(progress.looked_at);
      document.getElementById("found").textContent = number(progress.found);
    }
    setTimeout(poll, 1000);
  };
  poll();
});
