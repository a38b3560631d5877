// Shows the progress of a file, and loads the page again when its state changes.
document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("file");
  if (!page) return;
  const at = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en", { maximumFractionDigits: 0 });
  let state;
  const poll = async () => {
    const answer = await fetch(page.dataset.progress).catch(() => null);
    if (answer?.ok) {
      const progress = await answer.json();
      state ??= progress.state;
      if (progress.state !== state || !["waiting", "scoring"].includes(progress.state)) return location.reload();
      at("progress").max = progress.rows || 1;
      at("progress").value = progress.done;
      for (const name of ["done", "scored", "refused"]) at(name).textContent = number(progress[name]);
      at("total").textContent = progress.rows === null ? "?" : number(progress.rows);
      at("speed").textContent = progress.rate
        ? `, ${number(progress.rate)} a second, ${number(progress.eta_s ?? 0)} s to go`
        : "";
      at("fault").textContent = progress.detail;
      at("fault").classList.toggle("errornote", Boolean(progress.detail));
    }
    setTimeout(poll, 1000);
  };
  poll();
});
