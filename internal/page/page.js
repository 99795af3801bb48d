"use strict";
(() => {
  const key = "#filter=";
  const element = (id) => document.getElementById(id);
  const table = element("listeners");
  const input = element("filter");
  let timer;

  // What is shown in a short form can be found by its full form.
  const textOf = (row) =>
    Array.from(row.cells, (cell) => cell.textContent)
      .concat(Array.from(row.getElementsByTagName("abbr"), (abbr) => abbr.title))
      .join("\n")
      .toLowerCase();

  // A group is a row, or the row of a range of ports with those of its ports.
  const groups = Array.from(table?.tBodies ?? []).flatMap((body) => {
    const rows = Array.from(body.rows, (row) => ({ row, listeners: Number(row.dataset.n ?? 1) }));
    return body.className === "fold" ? [{ head: rows[0], parts: rows.slice(1) }] : rows.map((head) => ({ head, parts: [] }));
  });
  const listenersOf = ({ head, parts }) => (parts.length > 0 ? parts : [head]).reduce((sum, part) => sum + part.listeners, 0);
  const all = groups.reduce((sum, group) => sum + listenersOf(group), 0);

  const show = (row, shown) => {
    if (row.hidden === shown) row.hidden = !shown;
  };

  function apply() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (line) => {
      line.text ??= words.length > 0 ? textOf(line.row) : undefined;
      return words.every((word) => line.text.includes(word));
    };
    let shown = 0;
    for (const { head, parts } of groups) {
      const whole = matches(head);
      if (parts.length === 0) {
        show(head.row, whole);
        if (whole) shown += head.listeners;
        continue;
      }
      let some = false;
      for (const part of parts) {
        const matching = whole || matches(part);
        show(part.row, matching);
        if (matching) shown += part.listeners;
        some ||= matching;
      }
      show(head.row, some);
      head.row.querySelector("details").open = !whole;
    }
    element("count").textContent = `${shown} of ${all}`;
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

  if (groups.length === 0) return;
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
  // Another order and another selection keep the filter.
  addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='?']:not([href*='#'])");
    if (!link) return;
    toAddress();
    link.hash = location.hash;
    if (link.href !== location.href) return;
    event.preventDefault();
    location.reload(); // a link to the same place in the same page would not
  });
  element("search").hidden = false;
  fromAddress();
})();
