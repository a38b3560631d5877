// In a narrow window the cells of a list are stacked, so each one needs the title of its column.
const titles = [...document.querySelectorAll("#result_list thead th")].map((head) => head.textContent.trim());
for (const row of document.querySelectorAll("#result_list tbody tr")) {
  [...row.cells].forEach((cell, place) => (cell.dataset.title = titles[place] || ""));
}

// The undo button disappears when undoing is no longer possible.
for (const undo of document.querySelectorAll(".undo")) {
  setTimeout(() => undo.remove(), undo.dataset.seconds * 1000);
}

// While the page is visible, poll how many reviews are open and, in the queue, how many are new.
const INTERVAL_MS = 5000;
const queue = document.querySelector("[data-open-reviews]");
const news = document.getElementById("new-reviews");

// The tabs of the queues above their list: how many reviews, the age of the oldest, how many are late.
const showQueue = ({key, open, oldest, late}) => {
  const tab = document.querySelector(`[data-queue="${CSS.escape(key)}"]`);
  if (!tab) return;
  tab.querySelector(".open").textContent = open;
  tab.querySelector(".oldest").textContent = oldest && `oldest ${oldest}`;
  tab.querySelector(".late").textContent = `${late} late`;
  tab.querySelector(".late").hidden = late === 0;
};

const show = (counts) => {
  const count = queue.querySelector(".count") || queue.appendChild(document.createElement("span"));
  count.className = "count";
  count.textContent = counts.open;
  count.hidden = counts.open === 0;
  for (const tab of counts.queues || []) showQueue(tab);
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
        address.search = location.search; // count new reviews under the filters of this list
        address.searchParams.set("since", news.dataset.since);
      }
      if (document.querySelector("[data-queue]")) address.searchParams.set("queues", "1");
      const response = await fetch(address);
      if (response.redirected || response.status === 403) return; // logged out
      if (response.ok) show(await response.json());
    }
  } catch {
    // The site is away for a moment: poll again.
  }
  follow();
};

if (queue) follow();
