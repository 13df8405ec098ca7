// Asks a team and shows what its members do, as they do it; the answer has a page of its own. Without this script the
// form is sent as it is, and the browser waits.
import { follow, made } from "../../static/streaming.js";

const form = document.querySelector("#ask");
const progress = document.querySelector("#progress");
const doing = document.querySelector("#doing");
const tasks = document.querySelector("#tasks");

class Shown {
  rows = new Map();

  plan(plan) {
    plan.tasks.forEach((task) => this.#add(task));
    doing.textContent = plan.planned_by === "model" ? "The members work." : "There was no plan: every member is asked the question itself.";
  }

  task_started({ number }) {
    this.#state(number, "waiting_approval", "is at work");
  }

  task_ended({ number, state, answer, problem }) {
    this.#state(number, state === "done" ? "done" : "failed", problem || answer);
    doing.textContent = [...this.rows.values()].every((row) => row.ended) ? "The answers are joined." : "The members work.";
  }

  answer({ id }) {
    location.assign(`${form.dataset.questions}/${id}`);
  }

  error({ detail }) {
    const row = doing.parentElement;
    row.className = "notice bad";
    row.querySelector(".pulse").hidden = true;
    doing.textContent = detail;
    ready(true);
  }

  #add({ number, member, question, after }) {
    const dot = made("span", "dot");
    const said = made("p", "meta", after.length ? `waits for ${after.join(", ")}` : "");
    tasks.append(made("li", "", dot, made("div", "", made("p", "", made("b", "", `${number} ${member.replaceAll("_", " ")}`), ` ${question}`), said)));
    this.rows.set(number, { dot, said, ended: false });
  }

  #state(number, kind, text) {
    const row = this.rows.get(number);
    if (!row) return;
    row.dot.className = `dot ${kind}`;
    row.said.textContent = text;
    row.ended = kind !== "waiting_approval";
  }
}

function ready(is) {
  form.querySelector("button").disabled = !is;
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  ready(false);
  const row = doing.parentElement;
  row.className = "notice busy";
  row.querySelector(".pulse").hidden = false;
  doing.textContent = "The team makes its plan.";
  tasks.replaceChildren();
  progress.hidden = false;
  const body = new URLSearchParams(new FormData(form));
  follow(() => fetch(form.action, { method: "POST", body, headers: { Accept: "text/event-stream" } }), new Shown(), "answer");
});
