// One load on one replica: what, how often and until when is in the plan that loadtest/k6.py writes.
// Says what became of each request, one line of JSON each, on the console.
import http from 'k6/http';
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';
import { sleep } from 'k6';
import { answered, streamed, stored } from './answers.js';
import { batch, document, fresh, lead, uniform } from './requests.js';

const plan = JSON.parse(open(__ENV.PLAN));
const warmUp = 'warm-up';
// k6's own http_req_failed knows nothing of a stream that ends with an error.
const failed = new Counter('requests_failed');

export const options = plan.options;

// Arrivals of one kind are evenly spaced by k6, and those of all kinds would fall together: each waits a part of the
// space behind it, the same part in every run.
function begin(kind) {
  const number = exec.scenario.iterationInTest;
  sleep(uniform(plan.seed, kind, number) * plan.jitter_s[kind]);
  return number;
}

function send(kind, path, body, number, headers, read) {
  const measured = Date.now() - exec.scenario.startTime >= plan.warm_ms;
  const response = http.post(plan.address + path, body, {
    headers: Object.assign({ Authorization: `Bearer ${plan.keys[number % plan.keys.length]}` }, headers),
    tags: { kind: measured ? kind : warmUp, name: kind },
    timeout: plan.timeout,
  });
  const took = response.timings.duration;
  const said = { kind, measured, began: Date.now() - took, ms: took, status: response.status };
  if (response.status === 0) said.code = response.error || `k6 ${response.error_code}`;
  Object.assign(said, read(response));
  if (said.code || said.status < 200 || said.status >= 300) failed.add(1, { kind: measured ? kind : warmUp });
  console.log(JSON.stringify(said));
}

function ask(kind, message, number, stream) {
  const body = JSON.stringify({ message, history: [], stream });
  const path = `/v1/bots/${plan.bot}/chat`;
  send(kind, path, body, number, { 'Content-Type': 'application/json' }, stream ? streamed : answered);
}

function known(number) {
  // Each tenant has been answered each of them.
  return plan.known[Math.floor(number / plan.keys.length) % plan.known.length];
}

function once(kind, number) {
  return { 'Content-Type': 'application/json', 'Idempotency-Key': `${plan.run}-${kind}-${number}` };
}

export function chat() {
  const number = begin('chat');
  ask('chat', fresh(plan, 'chat', number), number, false);
}

export function stream() {
  const number = begin('stream');
  ask('stream', fresh(plan, 'stream', number), number, true);
}

export function knownWhole() {
  const number = begin('known');
  ask('known', known(number), number, false);
}

export function knownStream() {
  const number = begin('known-stream');
  ask('known-stream', known(number), number, true);
}

export function leads() {
  const number = begin('lead');
  const name = `${plan.run}-${number}`;
  send('lead', '/v1/leads', JSON.stringify(lead(name)), number, once('lead', number), stored);
}

export function documents() {
  const number = begin('document');
  const body = JSON.stringify(document(plan.run, number));
  send('document', `/v1/bots/${plan.filled}/documents`, body, number, once('document', number), stored);
}

export function batches() {
  const number = begin('batch');
  const headers = Object.assign(once('batch', number), { 'Content-Type': 'application/x-ndjson' });
  send('batch', '/v1/leads/batch', batch(plan.run, number, plan.batch_leads), number, headers, stored);
}

export function handleSummary(summary) {
  return { [plan.summary]: JSON.stringify(summary) };
}
