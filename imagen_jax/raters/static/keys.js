"use strict";

// Number keys choose an answer, Enter goes on. The pages work without this file too.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const choice = [...document.querySelectorAll("input[data-key]")].find(
    (input) => input.dataset.key === event.key
  );
  if (choice) {
    event.preventDefault();
    choice.checked = true;
    choice.focus({ preventScroll: true });
    return;
  }
  const form = document.querySelector("form");
  const focused = document.activeElement.tagName;
  if (event.key === "Enter" && form && focused !== "BUTTON" && focused !== "A") {
    event.preventDefault();
    form.requestSubmit();
  }
});
