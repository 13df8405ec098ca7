// What is sent. Everything that has a number is the same in every run with the same seed, but for the run's name.

const WORDS = [
  'warehouse', 'invoice', 'customs', 'harvest', 'bicycle', 'lantern', 'glacier', 'orchard', 'violin', 'compass',
  'furnace', 'ledger', 'harbour', 'meadow', 'cabinet', 'turbine', 'almanac', 'quarry', 'bakery', 'tunnel',
  'granite', 'ferry', 'library', 'copper', 'window', 'pasture', 'antenna', 'cellar', 'bridge', 'walnut',
];

// 0 to 1, of a number: SplitMix-like mixing of 32 bits.
export function uniform(seed, kind, number) {
  let mixed = (seed ^ (number * 0x9e3779b9)) >>> 0;
  for (let at = 0; at < kind.length; at++) mixed = Math.imul(mixed ^ kind.charCodeAt(at), 0x85ebca6b) >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0xc2b2ae35) >>> 0;
  return ((mixed ^ (mixed >>> 15)) >>> 0) / 4294967296;
}

function words(seed, kind, number, count) {
  const found = [];
  for (let at = 0; at < count; at++) found.push(WORDS[Math.floor(uniform(seed + at, kind, number) * WORDS.length)]);
  return found.join(' ');
}

// A question that nobody has asked: one that the documents answer, and what nobody has said with it. Where a trace is
// replayed, it is as long as there, and says how long its answer is to be.
export function fresh(plan, kind, number) {
  const base = plan.asked[number % plan.asked.length];
  const lengths = plan.lengths[kind];
  const [asked, answer] = lengths.length ? lengths[number % lengths.length] : [0, 0];
  const more = Math.max(4, asked - base.split(' ').length);
  const wish = answer ? ` Answer in ${answer} words.` : '';
  return `${base} I work with the ${words(plan.seed, plan.run + kind, number, more)}, number ${number}.${wish}`;
}

export function lead(name) {
  return {
    external_id: name,
    name: `Person ${name}`,
    email: `${name}@example.org`,
    company: 'Example Dairy',
    language: 'en',
    message: 'We may want sensors for our cold rooms next year. What do they cost?',
  };
}

export function batch(run, number, size) {
  const lines = [];
  for (let at = 0; at < size; at++) lines.push(JSON.stringify(lead(`${run}-batch-${number}-${at}`)));
  return lines.join('\n');
}

export function document(run, number) {
  const slug = `load-${run}-${number}`;
  const paragraphs = [];
  for (let at = 0; at < 8; at++) paragraphs.push(`In part ${at} we keep the ${words(at, slug, number, 30)}.`);
  return { slug, title: `Note ${run} ${number}`, text: `# Note ${number}\n\n${paragraphs.join('\n\n')}` };
}
