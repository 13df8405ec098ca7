// What an answer says of itself. `code`: of a problem; `own`: milliseconds that were not a model's.
// `first`: until the first token. The service sends the first byte of a stream together with the first event after
// `start`, so the time to the first byte is that of the first token where that event is one, and else nothing is said.

const TYPE = 'urn:trellis:problem:';

export function stored(response) {
  return response.status < 300 ? {} : problem(response);
}

export function answered(response) {
  if (response.status !== 200) return problem(response);
  return told(parsed(response.body), response.timings.duration);
}

export function streamed(response) {
  if (response.status !== 200) return problem(response);
  const events = response.body.split('\n\n').filter((each) => each.includes('\ndata: ')).map(event);
  const last = events[events.length - 1];
  if (!last || (last.name !== 'done' && last.name !== 'error')) return { code: 'cut-off' };
  if (last.name === 'error') return { code: coded(last.data) };
  const spoken = events.length > 1 && events[0].name === 'start' && events[1].name === 'token';
  const first = spoken ? { first: response.timings.sending + response.timings.waiting } : {};
  return Object.assign(told(last.data, response.timings.duration), first);
}

function told(answer, took) {
  if (!answer || typeof answer.model_ms !== 'number') return { code: 'not-an-answer' };
  if (answer.refused) return { code: 'refused' };
  const cached = answer.cache !== 'none';
  return { cache: answer.cache, own: cached ? took : Math.max(0, took - answer.model_ms) };
}

function event(text) {
  const field = (name) => (text.split('\n').find((line) => line.startsWith(`${name}: `)) || '').slice(name.length + 2);
  return { name: field('event'), data: parsed(field('data')) };
}

function problem(response) {
  return response.status === 0 ? {} : { code: coded(parsed(response.body)) };
}

function coded(body) {
  return body && body.type ? body.type.replace(TYPE, '') : 'no-problem-document';
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
