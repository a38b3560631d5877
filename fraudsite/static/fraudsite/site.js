// What is offered for some seconds is gone when they have passed.
for (const undo of document.querySelectorAll(".undo")) {
  setTimeout(() => undo.remove(), undo.dataset.seconds * 1000);
}
