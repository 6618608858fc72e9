// The editor's page: opens, saves, and asks before anything is lost.
import * as tree from "./tree.js";

const $ = (id) => document.getElementById(id);
const [text, lines, dialog] = [$("text"), $("lines"), $("dialog")];
/** The open file: its path, the tag of the content it had, and that content. */
let file = null;

const address = (kind, query) => `api/${kind}?${new URLSearchParams(query)}`;
const unsaved = () => file !== null && text.value !== file.text;

function say(message, bad = false) {
  $("status").textContent = message;
  $("status").classList.toggle("bad", bad);
}

async function call(method, url, options = {}) {
  let response;
  try {
    response = await fetch(url, { method, ...options });
  } catch {
    throw new Error("The editor's service cannot be reached. Try again in a moment.");
  }
  if (response.ok || response.status === 412) return response;
  const problem = await response.json().catch(() => ({}));
  const error = new Error(problem.error || problem.detail || `The service answered ${response.status}.`);
  error.status = response.status;
  throw error;
}

/** Shows a question with buttons; resolves to the chosen one and the text, or to null. */
function ask(question, choices, value) {
  $("question").textContent = question;
  $("answer").hidden = value === undefined;
  $("answer").value = value ?? "";
  const buttons = choices.map((choice, index) => {
    const button = document.createElement("button");
    button.textContent = button.value = choice;
    if (index > 0) button.className = "plain";
    return button;
  });
  dialog.querySelector(".choices").replaceChildren(...buttons);
  dialog.returnValue = "";
  dialog.showModal();
  (value === undefined ? buttons.at(-1) : $("answer")).focus();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const chosen = dialog.returnValue;
      resolve(chosen && chosen !== choices.at(-1) ? { chosen, value: $("answer").value.trim() } : null);
    };
  });
}

function draw() {
  const count = text.value.split("\n").length;
  if (lines.dataset.count !== String(count)) {
    lines.dataset.count = count;
    // One line more than the text has room for its horizontal scroll bar.
    lines.textContent = `${Array.from({ length: count }, (_, i) => i + 1).join("\n")}\n\n`;
  }
  lines.scrollTop = text.scrollTop;
  $("name").textContent = file?.path ?? "No file open";
  $("name").classList.toggle("unsaved", unsaved());
  $("save").disabled = !unsaved();
  document.title = `${unsaved() ? "● " : ""}${file?.path ?? "Editor"}`;
}

function edit(opened, content = "") {
  file = opened;
  text.value = content;
  // What the text area made of it (line ends) is what a change is measured by.
  if (file) file.text = text.value;
  $("sheet").hidden = file === null;
  $("empty").hidden = file !== null;
  $("empty").textContent = "Choose a file to edit, or make a new one.";
  text.scrollTop = 0;
  text.setSelectionRange(0, 0);
  draw();
}

const narrow = matchMedia("(max-width: 640px)");
function side(open) {
  $("work").classList.toggle("closed", !open);
  $("toggle").setAttribute("aria-expanded", open);
}

async function load(path) {
  const response = await call("GET", address("file", { path }));
  // text() would lose a byte order mark, and the next save with it.
  const content = new TextDecoder("utf-8", { ignoreBOM: true }).decode(await response.arrayBuffer());
  edit({ path, tag: response.headers.get("ETag"), crlf: content.includes("\r\n") }, content);
}

async function leave() {
  if (!unsaved()) return true;
  const answer = await ask(`${file.path} has unsaved changes.`, ["Save", "Discard", "Cancel"]);
  if (!answer) return false;
  return answer.chosen === "Discard" || save();
}

async function open(path) {
  if (file?.path !== path) {
    if (!(await leave())) return tree.select(file.path);
    try {
      await load(path);
      say("");
    } catch (error) {
      edit(null);
      $("empty").textContent = error.status === 404 ? "This file is not there any more." : error.message;
      if (error.status === 404) await refresh();
    }
  }
  if (narrow.matches) side(false);
  if (file) text.focus({ preventScroll: true });
}

async function save() {
  if (!file) return false;
  const opened = file;
  const written = text.value;
  const put = (tag) =>
    call("PUT", address("file", { path: opened.path }), {
      headers: tag ? { "If-Match": tag } : { "If-None-Match": "*" },
      body: opened.crlf ? written.replaceAll("\n", "\r\n") : written,
    });
  let response = await put(opened.tag);
  if (response.status === 412) {
    const question = `${opened.path} was changed or removed elsewhere since you opened it.`;
    const answer = await ask(question, ["Overwrite it", "Load the other version", "Cancel"]);
    if (!answer) return false;
    const now = await fetch(address("file", { path: opened.path }));
    if (answer.chosen !== "Overwrite it") {
      if (now.ok) await load(opened.path);
      else edit(null);
      await refresh();
      return now.ok;
    }
    response = await put(now.ok ? now.headers.get("ETag") : null);
    if (!response.ok) throw new Error("It changed again meanwhile. Save once more.");
  }
  opened.tag = response.headers.get("ETag");
  opened.text = written;
  say(`Saved ${opened.path}`);
  draw();
  return true;
}

async function refresh() {
  tree.show(await (await call("GET", "api/files")).json());
}

async function make(kind) {
  const answer = await ask(`Name of the new ${kind}`, ["Create", "Cancel"], tree.here());
  const path = answer?.value.replace(/\/+$/, "");
  if (!path) return;
  if (kind === "folder") await call("PUT", address("folder", { path }));
  else await call("PUT", address("file", { path }), { headers: { "If-None-Match": "*" }, body: "" });
  await refresh();
  tree.select(path);
  if (kind === "file") await open(path);
}

async function rename() {
  const path = tree.current();
  const answer = await ask(`New name of ${path}`, ["Rename", "Cancel"], path);
  const to = answer?.value;
  if (!to || to === path) return;
  await call("POST", address("file", { path, to }));
  if (file?.path === path) file.path = to;
  else if (file?.path.startsWith(`${path}/`)) file.path = to + file.path.slice(path.length);
  await refresh();
  tree.select(to);
  draw();
}

async function remove() {
  const path = tree.current();
  const what = tree.folder(path) ? "the folder with everything in it" : "the file";
  if (!(await ask(`Delete ${path}?\nThis removes ${what} for good.`, ["Delete", "Cancel"]))) return;
  await call("DELETE", address("file", { path }));
  if (file && (file.path === path || file.path.startsWith(`${path}/`))) edit(null);
  await refresh();
  say(`Deleted ${path}`);
}

const or = (work) => () => work().catch((error) => say(error.message, true));
$("save").onclick = or(save);
$("new-file").onclick = or(() => make("file"));
$("new-folder").onclick = or(() => make("folder"));
$("rename").onclick = or(rename);
$("remove").onclick = or(remove);
$("toggle").onclick = () => side($("work").classList.contains("closed"));
tree.listen({
  opened: (path) => or(() => open(path))(),
  chosen: (path) => { $("rename").disabled = $("remove").disabled = !path; },
});

text.addEventListener("input", draw);
text.addEventListener("scroll", () => { lines.scrollTop = text.scrollTop; });
let escaped = false;
text.addEventListener("keydown", (event) => {
  if (event.key === "Tab" && !escaped && !event.shiftKey && !event.ctrlKey && !event.altKey) {
    event.preventDefault();
    // The one way to insert that the browser can undo.
    document.execCommand("insertText", false, "  ");
  }
  escaped = event.key === "Escape" || (escaped && event.key === "Shift");
});
addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
    event.preventDefault();
    if (unsaved() && !dialog.open) or(save)();
  }
});
addEventListener("beforeunload", (event) => { if (unsaved()) event.preventDefault(); });
addEventListener("focus", () => { if (!dialog.open) or(refresh)(); });

or(async () => {
  await refresh();
  const first = document.querySelector('#tree [data-path="index.html"]');
  if (first && !narrow.matches) {
    tree.select("index.html");
    await open("index.html");
  }
})();
