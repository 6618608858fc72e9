// The tree of files: one row a visible entry, moved through with the arrow keys.
const tree = document.querySelector("#tree");
const open = new Set();
let entries = [];
let truncated = false;
let selected = null;
let onOpen = () => {};
let onSelect = () => {};

const parent = (path) => path.split("/").slice(0, -1).join("/");
const isFolder = (path) => entries.some((entry) => entry.path === path && entry.folder);

// Folders first, then by name, each folder's content below it.
function order(a, b) {
  const [x, y] = [a.path.split("/"), b.path.split("/")];
  for (let i = 0; ; i++) {
    if (i >= x.length || i >= y.length) return x.length - y.length;
    if (x[i] === y[i]) continue;
    const folders = (i < x.length - 1 || a.folder) - (i < y.length - 1 || b.folder);
    return folders ? -folders : x[i].localeCompare(y[i], undefined, { numeric: true });
  }
}

function visible(entry) {
  for (let up = parent(entry.path); up; up = parent(up)) if (!open.has(up)) return false;
  return true;
}

function row({ path, folder }) {
  const item = document.createElement("li");
  item.setAttribute("role", "treeitem");
  item.dataset.path = path;
  item.textContent = path.split("/").pop();
  item.style.setProperty("--depth", path.split("/").length - 1);
  item.setAttribute("aria-level", path.split("/").length);
  item.setAttribute("aria-selected", path === selected);
  if (folder) item.setAttribute("aria-expanded", open.has(path));
  item.tabIndex = -1;
  return item;
}

function draw() {
  const focused = tree.contains(document.activeElement);
  tree.replaceChildren(...entries.filter(visible).map(row));
  if (truncated) {
    const note = document.createElement("li");
    note.className = "note";
    note.textContent = "There are more files than shown here.";
    tree.append(note);
  }
  const current = tree.querySelector("[aria-selected=true]") ?? tree.querySelector("[role=treeitem]");
  if (current) current.tabIndex = 0;
  if (focused && current) current.focus();
}

export function show(list) {
  entries = list.entries.sort(order);
  truncated = list.truncated;
  if (selected && !entries.some((entry) => entry.path === selected)) select(null);
  draw();
}

export function select(path) {
  selected = path;
  for (let up = path ? parent(path) : ""; up; up = parent(up)) open.add(up);
  draw();
  onSelect(path);
}

/** The folder in which something new belongs: the selected one, or the one of the selected file. */
export function here() {
  if (!selected) return "";
  const folder = isFolder(selected) ? selected : parent(selected);
  return folder ? `${folder}/` : "";
}

export const current = () => selected;
export const folder = isFolder;

export function listen({ opened, chosen }) {
  onOpen = opened;
  onSelect = chosen;
}

function activate(path) {
  if (isFolder(path)) {
    if (!open.delete(path)) open.add(path);
    select(path);
  } else {
    select(path);
    onOpen(path);
  }
}

tree.addEventListener("click", (event) => {
  const item = event.target.closest("[data-path]");
  if (item) activate(item.dataset.path);
});

tree.addEventListener("keydown", (event) => {
  const item = event.target.closest("[data-path]");
  if (!item) return;
  const path = item.dataset.path;
  const rows = [...tree.querySelectorAll("[data-path]")];
  const at = rows.indexOf(item);
  const go = (to) => to && select(to.dataset.path);
  const keys = {
    ArrowDown: () => go(rows[at + 1]),
    ArrowUp: () => go(rows[at - 1]),
    Home: () => go(rows[0]),
    End: () => go(rows.at(-1)),
    ArrowRight: () => isFolder(path) && !open.has(path) && activate(path),
    ArrowLeft: () => (open.has(path) && isFolder(path) ? activate(path) : parent(path) && select(parent(path))),
    Enter: () => activate(path),
    " ": () => activate(path),
    F2: () => document.querySelector("#rename").click(),
    Delete: () => document.querySelector("#remove").click(),
  };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
