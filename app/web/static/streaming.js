// What the scripts of several pages share: an element with its children, and answers that are streamed.
const RESUMES = 5;

export function made(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

export // An error of the console is a page: its sentence is the first paragraph.
async function complaint(answer) {
  if (answer.redirected) return "You are signed out: load the page again.";
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return page.querySelector("main p")?.textContent ?? "That did not work: load the page again.";
}

// Reads events until the last one; gives whether it came, and where to go on where it did not.
async function read(answer, shown, last, place) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return false;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").filter((line) => line && !line.startsWith(":")).map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]));
      if (!fields.event) continue;
      place.last = fields.id;
      const data = JSON.parse(fields.data);
      if (fields.event === "start") place.resume = data.resume;
      else shown[fields.event](data);
      if (fields.event === last || fields.event === "error") return true;
    }
  }
}

// Shows each event by the method of its name, up to the one called `last` or `error`. `begin` sends the request; where
// the connection breaks, the answer is read on from the event that came last.
export async function follow(begin, shown, last, signal) {
  const place = { resume: "", last: "" };
  for (let tried = 0; tried <= RESUMES; tried++) {
    try {
      const answer = place.resume
        ? await fetch(place.resume, { headers: { "Last-Event-ID": place.last }, signal })
        : await begin();
      if (!answer.ok || answer.redirected) return shown.error({ detail: await complaint(answer) });
      if (await read(answer, shown, last, place)) return;
    } catch (error) {
      if (signal?.aborted) return shown.error({ detail: "You stopped it." });
      if (!place.resume) return shown.error({ detail: "The server did not answer: try again." });
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  shown.error({ detail: "The connection broke too often: ask again." });
}
