"use strict";
/* The data of the page, with functions that compute and search. The document contains only one page of texts at a time. */

const corpus = take("corpus-data");
const data = take("text-data");
const MOST_TOKENS = 5000; /* approximate maximum in the document, summed over maskings */
const PAGE_SIZE = Math.min(Math.max(Math.round(MOST_TOKENS / (meanTokens() * corpus.maskings.length)), 4), 20);
const BOUNDARY = /[\p{L}\p{N}]/u;

const state = {
  on: corpus.maskings.map((_, m) => m < (matchMedia("(max-width: 40rem)").matches ? 1 : 2)),
  terms: [], /* of the search: {text, isWhole} */
  order: null, /* numbers to sort the texts by, or null: as in the file */
  sign: 1,
  shown: [], /* numbers of the texts that the search finds, in order */
  page: 0,
  shade: "drawn", /* or "chance": relative to equal chances */
  at: null, /* the chosen token: {text, token, masking} */
};

function take(id) {
  const element = document.getElementById(id);
  const value = JSON.parse(element.textContent);
  element.remove();
  return value;
}

function byId(id) {
  return document.getElementById(id);
}

/* An element; a name that starts with -- is a property of its style. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/* ---- numbers */

function numberAt(packed, i) {
  return packed.charCodeAt(i) - corpus.packed_from;
}

function countTokens(text) {
  return data.spans[text].length / 2;
}

function meanTokens() {
  const total = data.spans.reduce((sum, spans) => sum + spans.length / 2, 0);
  return Math.max(total / Math.max(data.spans.length, 1), 1);
}

/* [{start, end, startsWord}] of a text's tokens, in UTF-16 units */
function tokensOf(text) {
  const spans = data.spans[text];
  const tokens = [];
  let end = 0;
  for (let i = 0; i < spans.length; i += 2) {
    const start = end + numberAt(spans, i);
    const length = numberAt(spans, i + 1);
    end = start + (length >> 1);
    tokens.push({ start, end, startsWord: (length & 1) === 1 });
  }
  return tokens;
}

function share(masking, text, token) {
  return numberAt(data.maskings[masking].drawn[text], token) / corpus.draws;
}

function probability(masking, text, token) {
  const packed = data.maskings[masking].probability;
  return packed ? Math.exp(-numberAt(packed[text], token) / corpus.log_steps) : null;
}

/* 1 + number of tokens of the text with a higher probability; for a rule: with more draws */
function rank(masking, text, token) {
  const { probability: odds, drawn } = data.maskings[masking];
  const packed = (odds ?? drawn)[text];
  const sign = odds ? 1 : -1; /* odds are −ln p: smaller is more probable */
  const own = sign * packed.charCodeAt(token);
  let above = 0;
  for (let i = 0; i < packed.length; i++) above += sign * packed.charCodeAt(i) < own;
  return above + 1;
}

function takenOf(masking, text) {
  const packed = data.maskings[masking].taken?.[text];
  return new Set(packed ? Array.from(packed, (_, i) => numberAt(packed, i)) : []);
}

/* Masked tokens of a text: the same in every draw of every masking. */
const budgets = [];
function budget(text) {
  if (budgets[text] === undefined) {
    const drawn = data.maskings[0].drawn[text];
    let sum = 0;
    for (let i = 0; i < drawn.length; i++) sum += numberAt(drawn, i);
    budgets[text] = Math.round(sum / corpus.draws);
  }
  return budgets[text];
}

/* Ratio of a token's chance to equal chances, from the probability of a policy or the draws of a rule. */
function toChance(masking, text, token) {
  const odds = probability(masking, text, token);
  return odds === null ? (share(masking, text, token) * countTokens(text)) / budget(text) : odds * countTokens(text);
}

/* A ratio on a scale from −1 (a quarter or less) over 0 (equal) to 1 (four times or more) */
function level(ratio) {
  return ratio > 0 ? Math.min(Math.max(Math.log2(ratio) / 2, -1), 1) : -1;
}

function percent(value) {
  const digits = value > 0 && value < 0.0995 ? 1 : 0;
  return `${(100 * value).toFixed(value > 0 && value < 0.00095 ? 2 : digits)} %`;
}

function short(value) {
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "−");
}

/* ---- search */

/* Lower case that keeps the position of every character. */
function fold(text) {
  const lower = text.toLowerCase();
  if (lower.length === text.length) return lower;
  return Array.from(text, (c) => (c.toLowerCase().length === c.length ? c.toLowerCase() : c)).join("");
}

const folded = [];
function foldedText(text) {
  return (folded[text] ??= fold(data.texts[text]));
}

function parseTerms(query) {
  const words = [...query.matchAll(/"([^"]+)"?|([^\s"]+)/g)];
  return words.map((match) => ({ text: fold((match[1] ?? match[2]).trim()), isWhole: match[1] !== undefined }))
    .filter((term) => term.text);
}

/* Position of a term at or after `from`: at the start of a word and, if `isWhole`, up to the end of a word; −1 if absent. */
function findTerm(folded, term, from = 0) {
  const { text, isWhole } = term;
  const begins = BOUNDARY.test(text[0]);
  const ends = isWhole && BOUNDARY.test(text[text.length - 1]);
  for (let at = folded.indexOf(text, from); at >= 0; at = folded.indexOf(text, at + 1)) {
    const inWord = begins && at > 0 && BOUNDARY.test(folded[at - 1]);
    const goesOn = ends && at + text.length < folded.length && BOUNDARY.test(folded[at + text.length]);
    if (!inWord && !goesOn) return at;
  }
  return -1;
}

/* True for each token that a term of the search touches. */
function hitsOf(text, tokens) {
  const hits = tokens.map(() => false);
  for (const term of state.terms) {
    let at = findTerm(foldedText(text), term);
    while (at >= 0) {
      const end = at + term.text.length;
      tokens.forEach((token, i) => { if (token.start < end && token.end > at) hits[i] = true; });
      at = findTerm(foldedText(text), term, end);
    }
  }
  return hits;
}
