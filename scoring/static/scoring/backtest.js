// Shows the progress of a backtest, and loads the page again at its end.
document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("backtest");
  if (!page) return;
  const at = (id) => document.getElementById(id);
  const poll = async () => {
    const answer = await fetch(page.dataset.progress).catch(() => null);
    if (answer?.ok) {
      const progress = await answer.json();
      if (!progress.active) return location.reload();
      at("progress").max = progress.total || 1;
      at("progress").value = progress.done;
      at("done").textContent = progress.done.toLocaleString("en");
      at("total").textContent = progress.total.toLocaleString("en");
    }
    setTimeout(poll, 1000);
  };
  poll();
});
