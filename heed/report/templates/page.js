"use strict";
// Values on hover, the filter of the samples, and on a live page the newest sections. Numbers are read back from the
// drawn lines, whose picture is ten thousand units wide and high.
(() => {
  const UNITS = 10000;
  const there = { linear: (v) => v, root: (v) => Math.sqrt(Math.max(v, 0)), log2: (v) => Math.log2(v) };
  const back = { linear: (v) => v, root: (v) => v * v, log2: (v) => 2 ** v };

  // ── hover ──────────────────────────────────────────────────────────────────────────────────────────────────────

  const tips = [];
  const crosses = [];

  function element(kind, pool, i) {
    if (!pool[i]) {
      pool[i] = document.createElement("div");
      pool[i].className = kind;
      pool[i].setAttribute("aria-hidden", "true");
      document.body.append(pool[i]);
    }
    pool[i].hidden = false;
    return pool[i];
  }

  function hide(from = 0) {
    [tips, crosses].forEach((pool) => pool.slice(from).forEach((one) => { one.hidden = true; }));
  }

  function lines(plot) {
    return [...plot.querySelectorAll("path[data-name]")].map((path) => ({
      name: path.dataset.name,
      separate: path.classList.contains("mark"),
      points: [...path.getAttribute("d").matchAll(/(\d+) (\d+)/g)].map((found) => [+found[1], +found[2]]),
    }));
  }

  function written(value, range) {
    const digits = Math.min(8, Math.max(0, 3 - Math.floor(Math.log10(range || 1))));
    return Number(value.toFixed(digits)).toString().replace("-", "−");
  }

  function read(plot, point) {
    const { left, right, bottom, top, scale } = plot.dataset;
    const [low, high] = [there[scale](+left), there[scale](+right)];
    const x = back[scale](low + (point[0] / UNITS) * (high - low));
    const y = +top - (point[1] / UNITS) * (+top - +bottom);
    return [plot.dataset.x === "step" ? String(Math.round(x)) : written(x, +right - +left), written(y, +top - +bottom)];
  }

  function nearest(plot, across, down) {
    const box = plot.getBoundingClientRect();
    let best = null;
    const found = lines(plot).flatMap((line) => line.points.map((point) => {
      const dx = ((point[0] - across) / UNITS) * box.width;
      const dy = line.separate || down === null ? (((point[1] - (down ?? point[1])) / UNITS) * box.height) : 0;
      return { line, point, distance: Math.hypot(dx, dy) };
    }));
    for (const one of found) if (best === null || one.distance < best.distance) best = one;
    if (best === null) return null;
    const beside = found.filter((one) => one.point[0] === best.point[0] && (!one.line.separate || one === best));
    return { at: best.point[0], rows: [...new Map(beside.map((one) => [one.line.name, one])).values()] };
  }

  function show(plot, found, i) {
    const box = plot.getBoundingClientRect();
    const left = box.left + scrollX + (found.at / UNITS) * box.width;
    const cross = element("cross", crosses, i);
    cross.style.left = `${left}px`;
    cross.style.top = `${box.top + scrollY}px`;
    cross.style.height = `${box.height}px`;
    const tip = element("tip", tips, i);
    const values = found.rows.map((row) => `${row.line.name}  ${read(plot, row.point)[1]}`);
    tip.textContent = [`${plot.dataset.x} ${read(plot, found.rows[0].point)[0]}`, ...values].join("\n");
    const room = document.documentElement.clientWidth - 8;
    const wide = tip.offsetWidth;
    const beside = left + 12 + wide > scrollX + room ? left - 12 - wide : left + 12;
    tip.style.left = `${Math.max(scrollX + 4, beside)}px`;
    tip.style.top = `${box.top + scrollY + 6}px`;
  }

  function point(event) {
    const plot = event.target.closest?.(".frame")?.querySelector(".plot");
    if (!plot) return hide();
    const box = plot.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * UNITS;
    const found = nearest(plot, across, ((event.clientY - box.top) / box.height) * UNITS);
    if (found === null) return hide();
    show(plot, found, 0);
    let shown = 1;
    const group = plot.closest(".chart").dataset.group;
    for (const other of group ? document.querySelectorAll(".chart") : []) {
      const plotted = other.querySelector(".plot");
      if (other.dataset.group !== group || plotted === plot) continue;
      const same = nearest(plotted, found.at, null);
      if (same !== null && Math.abs(same.at - found.at) < UNITS / 50) show(plotted, same, shown++);
    }
    return hide(shown);
  }

  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("scroll", () => hide(), { passive: true });

  // ── samples ────────────────────────────────────────────────────────────────────────────────────────────────────

  function narrow(box) {
    const words = box.querySelector("input").value.trim().toLowerCase();
    const tag = box.querySelector("select").value;
    let shown = 0;
    for (const row of box.querySelectorAll(".sample")) {
      const fits = (!tag || row.dataset.tags.split("|").includes(tag)) && row.textContent.toLowerCase().includes(words);
      row.hidden = !fits;
      shown += fits;
    }
    box.querySelector("output").textContent = `${shown} shown`;
  }

  document.addEventListener("input", (event) => {
    const box = event.target.closest?.(".samples");
    if (box) narrow(box);
  });

  // ── paper: tables that are closed are printed too, and closed again ────────────────────────────────────────────

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.table:not([open])")];
    opened.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((one) => { one.open = false; }));

  // ── live ───────────────────────────────────────────────────────────────────────────────────────────────────────

  const every = Number(document.body.dataset.every || 0);
  if (!every) return;
  const main = document.getElementById("main");
  const sources = new Map([...main.children].map((section) => [section.id, section.outerHTML]));
  let tag = "";

  function carry(old, fresh) {
    for (const kept of old.querySelectorAll("details[id]")) {
      const its = fresh.querySelector(`#${CSS.escape(kept.id)}`);
      if (its) its.open = kept.open;
    }
    for (const kept of old.querySelectorAll("input, select")) {
      const its = fresh.querySelector(`#${CSS.escape(kept.id)}`);
      if (its) its.value = kept.value;
    }
    fresh.querySelectorAll(".samples").forEach(narrow);
    const places = [...old.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
    return () => fresh.querySelectorAll(".scroll").forEach((one, i) => {
      if (places[i]) [one.scrollLeft, one.scrollTop] = places[i];
    });
  }

  function swap(page) {
    const focus = document.activeElement?.id;
    const anchor = [...main.children].find((section) => section.getBoundingClientRect().bottom > 60);
    const before = anchor?.getBoundingClientRect().top;
    const fresh = [...page.getElementById("main").children];
    const named = new Set(fresh.map((section) => section.id));
    for (const old of [...main.children]) if (!named.has(old.id)) old.remove();
    fresh.forEach((section, i) => {
      const old = document.getElementById(section.id);
      const source = section.outerHTML;
      if (old && sources.get(section.id) === source) return;
      sources.set(section.id, source);
      const its = document.adoptNode(section);
      if (!old) return main.insertBefore(its, main.children[i] ?? null);
      const scroll = carry(old, its);
      old.replaceWith(its);
      return scroll();
    });
    for (const part of ["header", "nav"]) {
      const its = page.querySelector(part);
      const old = document.querySelector(part);
      if (its.innerHTML !== old.innerHTML) old.innerHTML = its.innerHTML;
    }
    const after = anchor && document.getElementById(anchor.id)?.getBoundingClientRect().top;
    if (anchor && after !== undefined) scrollBy(0, after - before);
    if (focus && document.activeElement?.id !== focus) document.getElementById(focus)?.focus({ preventScroll: true });
  }

  function say(words, gone) {
    const sign = document.querySelector(".live");
    sign.textContent = words;
    sign.classList.toggle("gone", gone);
  }

  async function refresh() {
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.ok) {
        tag = answer.headers.get("ETag") ?? "";
        swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
      const well = answer.ok || answer.status === 304;
      say(well ? "live" : "heed watch was started again: open the address that it printed", !well);
    } catch {
      say("heed watch is not running any more: this is what it last showed", true);
    }
    setTimeout(refresh, every * 1000);
  }

  setTimeout(refresh, every * 1000);
})();
