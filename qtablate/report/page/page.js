"use strict";
(function () {
  const byId = (id) => document.getElementById(id);
  // Text from the data enters the page by textContent alone, so that it never is markup.
  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  // Tables: a click on a head sorts, a field above a long table filters.
  const FIGURE = /[-+−]?\d[\d,]*\.?\d*(e[-+]?\d+)?/;
  function figureOf(text) {
    const found = text.match(FIGURE);
    return found ? parseFloat(found[0].replace(/,/g, "").replace("−", "-")) : null;
  }
  function compare(a, b) {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
    const x = figureOf(a), y = figureOf(b);
    if (x !== null && y !== null) return x - y;
    return x === null && y === null ? a.localeCompare(b) : x === null ? 1 : -1;
  }
  function sortBy(table, place, head) {
    const falling = head.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th").forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row, number) => ({ row, number, text: row.cells[place].textContent }));
    rows.sort((a, b) => {
      const order = compare(a.text, b.text);
      return (falling && a.text !== "" && b.text !== "" ? -order : order) || a.number - b.number;
    });
    rows.forEach((one) => body.append(one.row));
  }
  document.querySelectorAll(".scroll table").forEach((table) => {
    table.querySelectorAll("th").forEach((head, place) => {
      const button = element("button", head.textContent);
      button.type = "button";
      button.addEventListener("click", () => sortBy(table, place, head));
      head.replaceChildren(button);
    });
    if (table.tBodies[0].rows.length > 8) {
      const field = element("input", undefined, "table-filter");
      field.type = "search";
      field.placeholder = "Filter rows";
      field.setAttribute("aria-label", "Filter the rows of this table");
      field.addEventListener("input", () => {
        const wanted = field.value.toLowerCase();
        for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
      });
      table.parentElement.before(field);
    }
  });

  const data = JSON.parse(byId("data").textContent);
  if (!data.items) return;
  const NAME = 0, TASK = 1, CLIP = 2, QUESTION = 3, OPTIONS = 4, GOLD = 5, GROUP = 6, SHARES = 7, ANSWERS = 8;
  const PER_PAGE = 20;
  const group = byId("filter-group"), task = byId("filter-task"), text = byId("filter-text");
  data.tasks.forEach((name, number) => {
    const option = element("option", name);
    option.value = String(number);
    task.append(option);
  });
  let first = 0, linked = null;

  function chosen() {
    if (linked !== null) return data.items.filter((item) => item[NAME] === linked);
    const wanted = text.value.toLowerCase();
    return data.items.filter((item) =>
      (!group.value || item[GROUP] === group.value || (group.value === "disagree" && item[GROUP] === "more")) &&
      (!task.value || item[TASK] === Number(task.value)) &&
      (!wanted || [item[NAME], item[QUESTION], ...item[OPTIONS]].join("\n").toLowerCase().includes(wanted)));
  }

  function answersTable(item) {
    const count = item[OPTIONS].length || item[SHARES][0].length / 2;
    const table = element("table"), head = element("tr");
    head.append(element("th", data.axes, "word"));
    for (let option = 0; option < count; option++) {
      const letter = String.fromCharCode(65 + option);
      head.append(element("th", option === item[GOLD] ? letter + " (correct)" : letter, "figure"));
    }
    head.append(element("th", "seeds", "word"));
    table.createTHead().append(head);
    const body = table.createTBody();
    data.conditions.forEach((condition, number) => {
      const row = body.insertRow(), shares = item[SHARES][number];
      row.append(element("td", condition, "word"));
      for (let option = 0; option < count; option++) {
        const percent = shares.slice(2 * option, 2 * option + 2);
        const cell = element("td", percent === "99" ? "≥ 99 %" : percent ? Number(percent) + " %" : "", "figure share" + (option === item[GOLD] ? " gold" : ""));
        if (percent) cell.style.setProperty("--share", Number(percent) + "%");
        row.append(cell);
      }
      const seeds = element("td", undefined, "word answers");
      Array.from(item[ANSWERS][number]).forEach((digit, place) => {
        const answer = digit === "-" ? -1 : parseInt(digit, 36), right = answer === item[GOLD];
        const letter = answer < 0 ? "none" : String.fromCharCode(65 + answer);
        const mark = element("span", letter + (right ? "\u00a0✓" : "\u00a0✗"), right ? "good" : "bad");
        mark.title = "seed " + data.seeds[number][place];
        seeds.append(mark, " ");
      });
      row.append(seeds);
    });
    const scroll = element("div", undefined, "scroll");
    scroll.append(table);
    return scroll;
  }

  function card(item) {
    const box = element("article", undefined, "item");
    const title = element("h3"), link = element("a", item[NAME]);
    link.href = "#item=" + encodeURIComponent(item[NAME]);
    title.append(link, " ", element("span", data.tasks[item[TASK]], "note"));
    box.append(title);
    if (item[CLIP] >= 0) {
      const picture = element("img");
      picture.src = data.pictures[item[CLIP]];
      picture.alt = "Frames of the clip, in order";
      box.append(picture);
    }
    if (item[QUESTION]) box.append(element("p", item[QUESTION]));
    item[OPTIONS].forEach((option, number) => {
      const right = number === item[GOLD];
      box.append(element("div", "(" + String.fromCharCode(65 + number) + ") " + option + (right ? " ✓" : ""), right ? "gold" : ""));
    });
    box.append(answersTable(item));
    return box;
  }

  function show() {
    const items = chosen();
    first = Math.max(0, Math.min(first, Math.floor((items.length - 1) / PER_PAGE) * PER_PAGE));
    const page = items.slice(first, first + PER_PAGE);
    const from = items.length ? first + 1 : 0;
    byId("count").textContent = linked !== null && !items.length ? "No item " + linked + " here." :
      from + " to " + (first + page.length) + " of " + items.length + " items";
    byId("cards").replaceChildren(...page.map(card));
    byId("before").disabled = first === 0;
    byId("after").disabled = first + PER_PAGE >= items.length;
  }

  function filter() {
    linked = null;
    first = 0;
    if (location.hash.startsWith("#item=")) history.replaceState(null, "", "#browser");
    show();
  }
  function turn(by) {
    first += by;
    show();
    byId("count").scrollIntoView();
  }
  function follow() {
    if (!location.hash.startsWith("#item=")) {
      if (linked !== null) { linked = null; show(); }
      return;
    }
    try { linked = decodeURIComponent(location.hash.slice(6)); } catch (error) { linked = location.hash.slice(6); }
    show();
    byId("browser").scrollIntoView();
  }
  group.addEventListener("change", filter);
  task.addEventListener("change", filter);
  text.addEventListener("input", filter);
  text.form.addEventListener("submit", (event) => event.preventDefault());
  byId("before").addEventListener("click", () => turn(-PER_PAGE));
  byId("after").addEventListener("click", () => turn(PER_PAGE));
  window.addEventListener("hashchange", follow);
  show();
  follow();
})();
