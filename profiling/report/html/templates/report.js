"use strict";
(() => {
  const counted = new Intl.NumberFormat("en-US");
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const normal = (text) => text.toLocaleLowerCase().normalize("NFC");

  function cellOf(packed) {
    if (typeof packed === "string") return { text: packed, sort: null, link: null };
    return { text: packed[0], sort: packed[1] ?? null, link: packed[2] ?? null };
  }

  function cellIn(node) {
    const given = node.dataset.sort;
    const link = node.querySelector("a");
    return { text: node.textContent, sort: given === undefined ? null : Number(given), link: link && link.getAttribute("href") };
  }

  class SortedTable {
    constructor(table) {
      this.table = table;
      this.body = table.tBodies[0];
      this.heads = [...table.tHead.rows[0].cells];
      this.prose = table.classList.contains("prose");
      this.kinds = this.heads.map((head) => head.className);
      this.rows = [...this.body.rows].map((row) => ({ cells: [...row.cells].map(cellIn), marked: row.classList.contains("marked") }));
      const further = document.getElementById(`${table.id}-rows`);
      if (further) for (const row of JSON.parse(further.textContent)) this.rows.push({ cells: row.map(cellOf), marked: false });
      this.rows.forEach((row, place) => { row.place = place; row.words = normal(row.cells.map((cell) => cell.text).join(" ")); });
      this.view = this.rows;
      this.page = 0;
      this.size = Number(table.dataset.page);
      this.heads.forEach((head, column) => this.addButton(head, column));
      if (this.rows.length > this.size) this.addPager();
    }

    addButton(head, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.textContent = "";
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => this.sort(column));
    }

    addPager() {
      const pager = document.createElement("div");
      pager.className = "pager";
      pager.setAttribute("role", "group");
      pager.setAttribute("aria-label", `Pages of: ${this.table.caption.textContent}`);
      const make = (text, step) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = text;
        button.addEventListener("click", () => { this.page += step; this.draw(); });
        pager.append(button);
        return button;
      };
      this.before = make("Previous", -1);
      this.after = make("Next", 1);
      this.where = document.createElement("span");
      this.where.setAttribute("aria-live", "polite");
      pager.append(this.where);
      this.table.parentElement.after(pager);
      this.draw();
    }

    sort(column) {
      const head = this.heads[column];
      const down = head.getAttribute("aria-sort") === "ascending";
      this.heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column];
      this.rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        const order = x.sort !== null && y.sort !== null ? x.sort - y.sort : collator.compare(x.text, y.text);
        return (down ? -order : order) || a.place - b.place;
      });
      this.page = 0;
      this.filter(this.wanted || "");
    }

    filter(wanted) {
      this.wanted = wanted;
      this.view = wanted ? this.rows.filter((row) => row.words.includes(wanted)) : this.rows;
      this.page = 0;
      this.draw();
      return this.view.length;
    }

    draw() {
      const pages = Math.max(1, Math.ceil(this.view.length / this.size));
      this.page = Math.min(Math.max(this.page, 0), pages - 1);
      const first = this.page * this.size;
      const shown = this.view.slice(first, first + this.size);
      this.body.replaceChildren(...shown.map((row) => this.drawRow(row)));
      const count = this.table.querySelector("[data-count]");
      if (count) count.textContent = this.view.length === this.rows.length ? `(${counted.format(this.rows.length)})` : `(${counted.format(this.view.length)} of ${counted.format(this.rows.length)})`;
      if (this.where) {
        this.where.textContent = shown.length ? `${counted.format(first + 1)}–${counted.format(first + shown.length)} of ${counted.format(this.view.length)}` : "none";
        this.before.disabled = this.page === 0;
        this.after.disabled = this.page >= pages - 1;
      }
    }

    drawRow(row) {
      const line = document.createElement("tr");
      line.setAttribute("role", "row");
      if (row.marked) line.className = "marked";
      row.cells.forEach((cell, column) => {
        const node = document.createElement(column ? "td" : "th");
        if (!column) node.scope = "row";
        node.setAttribute("role", column ? "cell" : "rowheader");
        if (column && this.prose) node.dataset.head = this.heads[column].textContent;
        if (this.kinds[column]) node.className = this.kinds[column];
        if (cell.link && cell.link.startsWith("#")) {
          const link = document.createElement("a");
          link.href = cell.link;
          link.textContent = cell.text;
          node.append(link);
        } else node.textContent = cell.text;
        line.append(node);
      });
      return line;
    }
  }

  const tables = [...document.querySelectorAll("table.sortable")].map((table) => new SortedTable(table));
  const searched = tables.filter((one) => "searchable" in one.table.dataset);
  const cards = [...document.querySelectorAll(".card[data-search]")];
  const box = document.querySelector(".search");

  function search(text) {
    const wanted = normal(text.trim());
    const parts = searched.map((one) => `${counted.format(one.filter(wanted))} in “${one.table.caption.firstChild.textContent.trim()}”`);
    for (const card of cards) card.hidden = wanted !== "" && !normal(card.dataset.search).includes(wanted);
    if (cards.length) parts.push(`${cards.filter((card) => !card.hidden).length} pictured`);
    document.getElementById("found").textContent = wanted ? parts.join(", ") : "";
  }

  if (box && searched.length) {
    box.hidden = false;
    const input = box.querySelector("input");
    let waiting = 0;
    input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => search(input.value), 120); });
    input.addEventListener("keydown", (event) => { if (event.key === "Escape") { input.value = ""; search(""); } });
  }

  for (const card of cards) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Enlarge";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `Enlarge ${card.querySelector("h3").textContent}`);
    button.addEventListener("click", () => {
      const wide = card.classList.toggle("wide");
      button.setAttribute("aria-pressed", String(wide));
    });
    card.querySelector("header h3").after(button);
  }

  // what has nothing to scroll needs no stop of the Tab key
  const frames = [...document.querySelectorAll(".table-frame, .scroll")];
  const stops = () => frames.forEach((frame) => {
    if (frame.scrollWidth > frame.clientWidth + 1) frame.tabIndex = 0;
    else frame.removeAttribute("tabindex");
  });
  new ResizeObserver(stops).observe(document.body);
  stops();

  // on paper nothing can be unfolded
  let unfolded = [];
  window.addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open])")];
    for (const one of unfolded) one.open = true;
  });
  window.addEventListener("afterprint", () => { for (const one of unfolded) one.open = false; });

  const controls = document.querySelector(".controls");
  if (controls && document.querySelector(".overlay")) {
    controls.hidden = false;
    const shown = document.getElementById("show-labels");
    const apply = () => document.body.classList.toggle("no-labels", !shown.checked);
    shown.addEventListener("change", apply);
    document.getElementById("label-opacity").addEventListener("input", (event) => {
      document.documentElement.style.setProperty("--label-opacity", String(event.target.value / 100));
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof HTMLInputElement && event.target.type === "search";
      if (event.key.toLowerCase() !== "l" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      shown.checked = !shown.checked;
      apply();
    });
  }
})();
