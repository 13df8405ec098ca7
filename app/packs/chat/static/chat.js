// Asks a bot and shows the answer as it comes: words, citations, what it cost, which cache saved it.
import { complaint, follow, made } from "../../static/streaming.js";

const talk = document.querySelector("#talk");
const form = document.querySelector("#ask");
const message = document.querySelector("#message");
const stop = document.querySelector("#stop");
const CACHES = { exact: "from the cache", semantic: "from the answer to a question that means the same", shared: "shared with the same question asked at the same time" };
let answers = 0;

function linked(href, text) {
  const link = made("a", "", text);
  link.href = href;
  return link;
}

// The parts of one answer on the page.
class Shown {
  constructor() {
    this.number = ++answers;
    this.text = "";
    this.said = made("p", "said");
    this.sources = made("ul", "sources");
    this.meta = made("p", "meta", made("span", "pulse"), "Looking it up");
    this.turn = made("article", "turn assistant", this.said, this.meta);
    talk.append(this.turn);
    this.turn.scrollIntoView({ block: "nearest" });
  }

  token({ text }) {
    this.text += text;
    this.#write();
  }

  tool({ tool, state }) {
    if (state !== "started") return;
    this.text = "";
    this.#write();
    this.meta.replaceChildren(made("span", "pulse"), `Uses ${tool.replaceAll("_", " ")}`);
  }

  citation(source) {
    const place = linked(`${talk.dataset.documents}/${encodeURIComponent(source.document_id)}#${encodeURIComponent(source.chunk_id)}`, "Open the document");
    const title = source.heading && source.heading !== source.title ? `${source.title}: ${source.heading}` : source.title;
    const summary = made("summary", "", `[${source.number}] ${title} `, made("span", "score", `${Math.round(source.score * 100)}%`));
    const details = made("details", "", summary, made("p", "quote", source.quote), place);
    details.id = `source-${this.number}-${source.number}`;
    this.sources.append(made("li", "", details));
    if (!this.sources.isConnected) this.meta.before(this.sources);
  }

  done(answer) {
    this.text = answer.text;
    this.sources.replaceChildren();
    answer.citations.forEach((source) => this.citation(source));
    this.#write();
    const who = answer.model ? `by ${answer.model}` : "without a model";
    const parts = [who, money(answer.cost_usd)];
    if (answer.cache !== "none") parts.push(`${CACHES[answer.cache]}, saved ${money(answer.saved_usd)}`);
    if (answer.refused) parts.push("the documents do not say it");
    parts.push(answer.duration_ms < 1000 ? `${answer.duration_ms.toFixed(answer.duration_ms < 10 ? 1 : 0)} ms` : `${(answer.duration_ms / 1000).toFixed(1)} s`);
    this.meta.replaceChildren(...parts.map((part) => made("span", "", part)), linked(`${talk.dataset.decisions}/${answer.decision_id}`, "Why"), ...this.#judging(answer.decision_id));
  }

  error({ detail }) {
    this.meta.remove();
    this.turn.append(made("p", "notice bad", this.text ? `${detail} What stands above is no answer.` : detail));
  }

  #judging(decision) {
    return [["true", "Helpful"], ["false", "Not helpful"]].map(([helpful, label]) => {
      const button = made("button", "quiet", label);
      button.type = "button";
      button.addEventListener("click", () => judge(decision, helpful, button));
      return button;
    });
  }

  // Numbers in brackets open the passage that they name.
  #write() {
    const parts = this.text.split(/\[(\d+)\]/);
    this.said.replaceChildren(...parts.map((part, at) => (at % 2 ? this.#mark(part) : part)));
    this.turn.scrollIntoView({ block: "nearest" });
  }

  #mark(number) {
    const link = linked(`#source-${this.number}-${number}`, `[${number}]`);
    link.className = "cited";
    link.addEventListener("click", () => document.getElementById(`source-${this.number}-${number}`)?.setAttribute("open", ""));
    return link;
  }
}

function money(usd) {
  return usd > 0 && usd < 0.01 ? `$${usd.toFixed(6).replace(/0+$/, "")}` : `$${usd.toFixed(2)}`;
}

async function judge(decision, helpful, button) {
  const answer = await fetch(`${talk.dataset.answers}/${decision}/feedback`, {
    method: "POST",
    body: new URLSearchParams({ form_token: talk.dataset.token, helpful }),
  });
  const said = answer.ok ? "Thank you" : await complaint(answer);
  const buttons = button.parentElement.querySelectorAll("button");
  button.after(made("span", "", said));
  buttons.forEach((one) => one.remove());
}

async function ask() {
  const question = message.value.trim();
  if (!question || !stop.hidden) return;
  talk.append(made("article", "turn user", made("p", "said", question)));
  const control = new AbortController();
  const stopping = () => control.abort();
  stop.addEventListener("click", stopping);
  stop.hidden = false;
  message.value = "";
  const body = new URLSearchParams({ form_token: talk.dataset.token, message: question });
  const begin = () => fetch(talk.dataset.ask, { method: "POST", body, signal: control.signal });
  await follow(begin, new Shown(), "done", control.signal);
  stop.removeEventListener("click", stopping);
  stop.hidden = true;
  message.focus();
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
message?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
