// On a narrow window each cell of a list stands by itself: it says what its column is called.
const titles = [...document.querySelectorAll("#result_list thead th")].map((head) => head.textContent.trim());
for (const row of document.querySelectorAll("#result_list tbody tr")) {
  [...row.cells].forEach((cell, place) => (cell.dataset.title = titles[place] || ""));
}

// What is offered for some seconds is gone when they have passed.
for (const undo of document.querySelectorAll(".undo")) {
  setTimeout(() => undo.remove(), undo.dataset.seconds * 1000);
}

// How many reviews are open, and in the queue how many are new, is asked for while somebody looks.
const INTERVAL_MS = 5000;
const queue = document.querySelector("[data-open-reviews]");
const news = document.getElementById("new-reviews");

const show = (counts) => {
  const count = queue.querySelector(".count") || queue.appendChild(document.createElement("span"));
  count.className = "count";
  count.textContent = counts.open;
  count.hidden = counts.open === 0;
  if (!news) return;
  news.hidden = counts.new === 0;
  news.querySelector("strong").textContent = `${counts.new} new`;
};

const follow = async () => {
  await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  try {
    if (!document.hidden) {
      const address = new URL(queue.dataset.openReviews, location);
      if (news) {
        address.search = location.search; // what is new under the filter of this list
        address.searchParams.set("since", news.dataset.since);
      }
      const response = await fetch(address);
      if (response.redirected || response.status === 403) return; // logged out
      if (response.ok) show(await response.json());
    }
  } catch {
    // The site is away for a moment: ask again.
  }
  follow();
};

if (queue) follow();
