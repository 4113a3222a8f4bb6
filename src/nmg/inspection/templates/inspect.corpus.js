/* The corpus: shares of groups of tokens, and words, for the maskings that are shown. */

const WORDS_A_LIST = 12;
const SUMMARY_WORDS = 6;

function visibleViews() {
  return corpus.views.map((view, v) => ({ ...view, v })).filter(({ masking }) => state.on[masking]);
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

/* Share of all tokens that a view masks; rates are compared with it. */
function overallRate(v) {
  const [first] = corpus.shares;
  return sum(first.masked[v]) / Math.max(sum(first.counts), 1);
}

/* A bar to the right for ratios above 1, to the left for ratios below 1. */
function ratioBar(ratio) {
  const length = level(ratio);
  return make("span", {
    class: `ratio-bar ${length < 0 ? "less" : "more"}`, "aria-hidden": "true", "--length": Math.abs(length).toFixed(3),
  });
}

function ratioText(ratio) {
  return `×${ratio < 9.995 ? ratio.toFixed(2) : ratio.toFixed(ratio < 99.95 ? 1 : 0)}`;
}

function headings(views) {
  return views.map(({ name, masking }) => make("th", { scope: "col", "data-series": masking % 6 }, make("span", { class: "name" }, name)));
}

function sharesSection({ title, note, groups, counts, masked }, number) {
  const views = visibleViews();
  const total = Math.max(sum(counts), 1);
  const rows = groups.map((group, g) => make("tr", {},
    make("th", { scope: "row" }, group),
    make("td", {}, percent(counts[g] / total), " ", make("small", {}, counts[g].toLocaleString("en"))),
    ...views.map(({ v }) => {
      const ofMasked = masked[v][g] / (sum(masked[v]) || 1);
      const ratio = ofMasked / (counts[g] / total);
      return make("td", { class: "ratio" }, ratioBar(ratio), make("b", {}, ratioText(ratio)), " ", make("small", {}, percent(ofMasked)));
    })));
  const head = make("tr", {}, make("th", { scope: "col" }, title), make("th", { scope: "col" }, "of all tokens"), ...headings(views));
  const id = `shares-${number}`;
  return make("section", { "aria-labelledby": id },
    make("h2", { id }, title), make("p", { class: "note" }, note),
    make("div", { class: "wide", role: "region", "aria-label": title, tabindex: 0 },
      make("p", { class: "scrolls", "aria-hidden": true }, "Scroll sideways for more columns →"),
      make("table", { class: "shares" }, make("thead", {}, head), make("tbody", {}, ...rows))));
}

/* ---- words */

const FREQUENT = 5;
const wordChoice = { least: FREQUENT, holds: "" };

function wordsSection() {
  const least = make("input", { type: "number", min: 1, value: wordChoice.least, inputmode: "numeric" });
  const holds = make("input", { type: "search", value: wordChoice.holds, placeholder: "any", autocomplete: "off", spellcheck: "false" });
  const lists = make("div", { class: "word-lists" }, ...wordLists());
  const change = () => {
    Object.assign(wordChoice, { least: Number(least.value) || 1, holds: fold(holds.value.trim()) });
    lists.replaceChildren(...wordLists());
  };
  least.addEventListener("input", change);
  holds.addEventListener("input", change);
  return make("section", { "aria-labelledby": "words" },
    make("h2", { id: "words" }, "Most and least masked words"),
    make("p", { class: "note" }, corpus.words.note),
    make("p", { class: "word-choice" },
      make("label", {}, "occurs at least ", least, " times"), make("label", {}, "contains ", holds)),
    lists);
}

function wordLists() {
  const { words, counts, rates } = corpus.words;
  const kept = words.map((_, w) => w).filter((w) => counts[w] >= wordChoice.least && words[w].includes(wordChoice.holds));
  if (!kept.length) return [make("p", { class: "empty" }, "No word matches.")];
  return visibleViews().map(({ name, masking, v }) => {
    const sorted = [...kept].sort((a, b) => rates[v][b] - rates[v][a] || counts[b] - counts[a]);
    const least = [...kept].sort((a, b) => rates[v][a] - rates[v][b] || counts[b] - counts[a]);
    return make("div", { class: "word-card", "data-series": masking % 6 },
      make("h3", {}, make("span", { class: "name" }, name)),
      wordTable("most masked", sorted.slice(0, WORDS_A_LIST), v), wordTable("least masked", least.slice(0, WORDS_A_LIST), v));
  });
}

/* Frequent words that a view masks most, as indices; all words if none is frequent. */
function mostMasked(v, most) {
  const { words, counts, rates } = corpus.words;
  const all = words.map((_, w) => w);
  const frequent = all.filter((w) => counts[w] >= FREQUENT);
  return (frequent.length ? frequent : all).sort((a, b) => rates[v][b] - rates[v][a] || counts[b] - counts[a]).slice(0, most);
}

function wordButton(w) {
  const word = corpus.words.words[w];
  const button = make("button", { type: "button", class: "word", title: word }, word);
  button.addEventListener("click", () => findWord(word));
  return button;
}

function wordTable(title, chosen, v) {
  const { counts, rates } = corpus.words;
  const rate = overallRate(v) || 1;
  const rows = chosen.map((w) => {
    return make("tr", {}, make("th", { scope: "row" }, wordButton(w)), make("td", {}, counts[w].toLocaleString("en")),
      make("td", {}, percent(rates[v][w])), make("td", {}, make("b", {}, ratioText(rates[v][w] / rate))));
  });
  const names = [title, "seen", "masked", "to mean"];
  return make("table", {}, make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows));
}

function findWord(word) {
  byId("search").value = `"${word}"`;
  openTab("texts");
  search(byId("search").value);
  byId("search").focus();
}

function showCorpus() {
  if (!visible().length) byId("corpus").replaceChildren(make("p", { class: "empty" }, "No masking is selected."));
  else byId("corpus").replaceChildren(wordsSection(), ...corpus.shares.map(sharesSection));
}
