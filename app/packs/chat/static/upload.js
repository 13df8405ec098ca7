// Sends files one after the other, says which were not taken and why, and shows the list as it is then.
const form = document.querySelector("#upload");
const sent = document.querySelector("#sent");
const refused = document.querySelector("#refused");

async function complaint(answer) {
  if (answer.redirected) return "you are signed out: load the page again.";
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return page.querySelector("main p")?.textContent ?? "it was not taken: load the page again.";
}

async function send(file) {
  const body = new FormData();
  body.append("file", file);
  const answer = await fetch(form.dataset.to, { method: "POST", body, headers: { "x-form-token": form.dataset.token } });
  if (answer.ok && !answer.redirected) return true;
  const item = document.createElement("li");
  item.textContent = `${file.name}: ${await complaint(answer)}`;
  refused.append(item);
  return false;
}

async function show() {
  const list = document.querySelector("#documents");
  await window.htmx.ajax("GET", list.dataset.live, { target: "#documents", swap: "outerHTML" });
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  const files = [...form.querySelectorAll("input[type=file]")].flatMap((field) => [...field.files]);
  if (!files.length) {
    sent.textContent = "Choose a file first.";
    return;
  }
  button.disabled = true;
  refused.replaceChildren();
  let taken = 0;
  for (const [at, file] of files.entries()) {
    sent.textContent = `Sending ${at + 1} of ${files.length}`;
    try {
      taken += await send(file);
    } catch {
      sent.textContent = "The server does not answer.";
      break;
    }
  }
  sent.textContent = `${taken} of ${files.length} taken.`;
  form.reset();
  button.disabled = false;
  await show();
});
