// Sends a message and writes the answer as its events arrive.
const talk = document.querySelector("#talk");
const form = document.querySelector("#ask");
const input = document.querySelector("#message");
const button = form.querySelector("button");
const status = document.querySelector("#status");

function show(kind, text) {
  const message = document.createElement("div");
  message.className = `message ${kind}`;
  message.textContent = text;
  talk.append(message);
  talk.scrollTop = talk.scrollHeight;
  return message;
}

// Events of a stream that was asked for by POST, which EventSource cannot do.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      const field = (name) => lines.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
      if (field("event")) yield { event: field("event"), data: JSON.parse(field("data")) };
    }
  }
}

async function ask(text) {
  const answer = show("answer", "");
  answer.setAttribute("aria-busy", "true");
  try {
    const response = await fetch("api/chat", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ message: text }),
    });
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}));
      throw new Error(problem.error || problem.detail || `The service answered ${response.status}.`);
    }
    let whole = false;
    for await (const { event, data } of events(response.body)) {
      const follow = talk.scrollTop + talk.clientHeight > talk.scrollHeight - 60;
      if (event === "token") answer.textContent += data.text;
      if (event === "done") whole = true;
      if (follow) talk.scrollTop = talk.scrollHeight;
    }
    if (!whole) throw new Error("The answer broke off. Send your message again.");
    // One announcement of the whole answer: a screen reader would stumble over single words.
    status.textContent = answer.textContent;
  } catch (error) {
    const text = error instanceof TypeError ? "The service cannot be reached. Try again in a moment." : error.message;
    show("answer failed", text);
    status.textContent = text;
    if (!answer.textContent) answer.remove();
  } finally {
    answer.removeAttribute("aria-busy");
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text || button.disabled) return;
  input.value = "";
  grow();
  show("mine", text);
  button.disabled = true;
  await ask(text);
  button.disabled = false;
  input.focus();
});

input.addEventListener("keydown", (event) => {
  // Enter also ends the composition of a character in many languages: that one is not ours.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});

function grow() {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight + 2}px`;
}
input.addEventListener("input", grow);
