"use strict";
(() => {
  const key = "#filter=";
  const element = (id) => document.getElementById(id);
  const input = element("filter");
  const rows = Array.from(element("listeners").tBodies[0].rows);
  let texts; // what each row says, in lower case
  let timer;

  // What is shown in a short form can be found by its full form.
  const textOf = (row) =>
    Array.from(row.cells, (cell) => cell.textContent)
      .concat(Array.from(row.getElementsByTagName("abbr"), (abbr) => abbr.title))
      .join("\n")
      .toLowerCase();

  function prepare() {
    texts ??= rows.map(textOf);
  }

  function apply() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length > 0) prepare();
    let shown = 0;
    rows.forEach((row, i) => {
      const matches = words.every((word) => texts[i].includes(word));
      if (row.hidden === matches) row.hidden = !matches;
      if (matches) shown++;
    });
    element("count").textContent = `${shown} of ${rows.length}`;
    element("nothing").hidden = shown > 0;
  }

  // The filter is part of the address, so that a filtered page can be linked to.
  function toAddress() {
    const { pathname, search } = location;
    history.replaceState(null, "", input.value ? key + encodeURIComponent(input.value) : pathname + search);
  }

  function fromAddress() {
    let filter = location.hash.startsWith(key) ? location.hash.slice(key.length) : "";
    try {
      filter = decodeURIComponent(filter);
    } catch {
      // A percent sign that encodes nothing is a percent sign.
    }
    input.value = filter;
    apply();
  }

  function changed() {
    apply();
    // Browsers reject changes of the address that are too frequent.
    clearTimeout(timer);
    timer = setTimeout(toAddress, 300);
  }

  input.addEventListener("focus", prepare);
  input.addEventListener("input", changed);
  addEventListener("hashchange", fromAddress);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "/" && document.activeElement !== input) {
      event.preventDefault();
      input.select();
      input.focus();
    } else if (event.key === "Escape" && document.activeElement === input) {
      input.value = "";
      changed();
    }
  });

  if (element("listeners").querySelector(".empty")) return;
  element("search").hidden = false;
  fromAddress();
})();
