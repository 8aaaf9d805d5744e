"use strict";
(() => {
  const tasks = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const make = (tag, text, kind) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (kind) node.className = kind;
    return node;
  };
  const gain = (row) => row.values[row.values.length - 1] - row.values[0];
  const lists = {
    wins: (rows) => rows.filter((r) => gain(r) > 0).sort((a, b) => gain(b) - gain(a)),
    losses: (rows) => rows.filter((r) => gain(r) < 0).sort((a, b) => gain(a) - gain(b)),
    low: (rows) => [...rows].sort((a, b) => a.values[a.values.length - 1] - b.values[b.values.length - 1]),
    all: (rows) => rows,
  };

  function hit(found) {
    const node = make("div", undefined, found.grade > 0 ? "hit relevant" : "hit");
    const grade = found.grade === null ? "not judged" : "grade " + found.grade;
    node.append(make("small", [found.id, found.score || "", grade].filter(String).join(" · ")), found.text);
    return node;
  }

  function side(title, hits) {
    const node = make("div");
    node.append(make("h4", title), ...hits.map(hit));
    return node;
  }

  function entry(row, task) {
    const node = make("details", undefined, "query");
    const summary = make("summary");
    const numbers = make("span", row.values.map((v) => v.toFixed(4)).join("  →  "), "numbers");
    if (row.values.length > 1) numbers.classList.add(gain(row) > 0 ? "up" : gain(row) < 0 ? "down" : "dim");
    summary.append(numbers, make("b", row.text || row.id), " ", make("span", row.group, "dim"));
    node.append(summary);
    node.addEventListener("toggle", () => {
      if (!node.open || node.children.length > 1) return;
      const sides = make("div", undefined, "sides");
      task.models.forEach((model, i) => {
        if (row.hits[i].length) sides.append(side(model, row.hits[i]));
      });
      if (row.relevant.length) sides.append(side("relevant, not among the first of " + task.models[0], row.relevant));
      if (!sides.children.length) sides.append(make("p", "No documents are kept for this item.", "dim"));
      node.append(sides);
    });
    return node;
  }

  function show() {
    const task = tasks[find("task").value];
    const wanted = find("filter").value.toLowerCase();
    const rows = lists[find("order").value](task.rows).filter((r) => (r.text + " " + r.group).toLowerCase().includes(wanted));
    find("count").textContent = rows.length + " of " + task.rows.length + " · " + task.metric + " of " + task.models.join(" → ");
    find("rows").replaceChildren(...rows.slice(0, 200).map((row) => entry(row, task)));
  }

  if (!tasks.length) {
    find("rows").textContent = "These results hold no values of single queries; evaluate into a folder (--out).";
    return;
  }
  tasks.forEach((task, i) => {
    const option = make("option", task.key);
    option.value = i;
    find("task").append(option);
  });
  find("order").value = tasks[0].models.length > 1 ? "wins" : "low";
  for (const id of ["task", "order"]) find(id).addEventListener("change", show);
  find("filter").addEventListener("input", show);
  find("choice").addEventListener("submit", (event) => event.preventDefault());
  find("choice").hidden = false;
  show();
})();
