/* The chosen token and its details. */

function tokenElement({ text, token, masking }) {
  const views = `article[data-text="${text}"] .view`;
  const element = (view) => document.querySelector(`${view} [data-token="${token}"]`);
  return element(`${views}[data-masking="${masking}"]`) ?? element(views);
}

function placeOf(element) {
  return {
    text: Number(element.closest("article").dataset.text),
    masking: Number(element.closest(".view").dataset.masking),
    token: Number(element.dataset.token),
  };
}

/* The only token that Tab reaches. */
function setStop(element) {
  for (const stop of document.querySelectorAll('#texts [tabindex="0"]')) stop.tabIndex = -1;
  if (element) element.tabIndex = 0;
}

function choose(element) {
  state.at = placeOf(element);
  setStop(element);
  markChosen();
  showDetails();
}

function markChosen() {
  for (const element of document.querySelectorAll("#texts .chosen")) element.classList.remove("chosen");
  const { text, token } = state.at;
  for (const element of document.querySelectorAll(`article[data-text="${text}"] [data-token="${token}"]`)) {
    element.classList.add("chosen");
  }
}

function closeDetails() {
  const element = state.at && tokenElement(state.at);
  for (const chosen of document.querySelectorAll("#texts .chosen")) chosen.classList.remove("chosen");
  state.at = null;
  byId("details").classList.remove("open");
  showCorpusSummary();
  if (element) element.focus();
}

/* Without a chosen token: the words that each shown masking masks most, compared with all words. */
function showCorpusSummary() {
  const drawn = visibleViews().filter(({ masking }, at, all) => at === all.findIndex((view) => view.masking === masking));
  const sections = drawn.map(({ name, masking, v }) => {
    const words = mostMasked(v, SUMMARY_WORDS).map((word) => make("div", {}, make("dt", {}, wordButton(word)),
      make("dd", {}, `${percent(corpus.words.rates[v][word])} masked`)));
    return make("section", { "data-series": masking % 6 },
      make("h4", {}, make("span", { class: "name" }, name)), make("dl", {}, ...words));
  });
  byId("details").replaceChildren(make("h3", {}, "Most masked words"),
    make("p", { class: "note" }, "Choose a token to see its numbers, or a word to see its texts."), ...sections);
}

function showDetails() {
  const { text, token } = state.at;
  const tokens = tokensOf(text);
  const content = data.texts[text];
  let first = token;
  while (first > 0 && !tokens[first].startsWord) first--;
  let last = token;
  while (last + 1 < tokens.length && !tokens[last + 1].startsWord) last++;
  const close = make("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
  close.addEventListener("click", closeDetails);
  const facts = [["token", `${token + 1} of ${tokens.length}, ${data.titles[text]}`]];
  if (last > first) {
    facts.push(["word", `${content.slice(tokens[first].start, tokens[last].end)} (piece ${token - first + 1} of ${last - first + 1})`]);
  }
  for (const { name, names, of } of data.labels) facts.push([name, names[numberAt(of[text], token)]]);
  byId("details").replaceChildren(
    make("h3", {}, make("q", {}, content.slice(tokens[token].start, tokens[token].end) || "·"), close),
    make("dl", {}, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    ...corpus.maskings.map((_, masking) => detail(masking, text, token, tokens.length)));
  byId("details").classList.add("open");
}

function detail(masking, text, token, nTokens) {
  const { name } = corpus.maskings[masking];
  const masked = share(masking, text, token);
  const odds = probability(masking, text, token);
  const { taken } = data.maskings[masking];
  const times = numberAt(data.maskings[masking].drawn[text], token);
  const rows = [["drawn", `${times} of ${corpus.draws} draws (${percent(masked)})`]];
  if (odds !== null) rows.push(["probability per draw", `${short(100 * odds)} %`]);
  rows.push(["relative to chance", ratioText(toChance(masking, text, token))]);
  rows.push([odds === null ? "rank by draws" : "rank", `${rank(masking, text, token)} of ${nTokens}`]);
  if (taken) rows.push(["masked in use", `${takenOf(masking, text).has(token) ? "yes" : "no"}, k = ${budget(text)}`]);
  return make("section", { "data-series": masking % 6 },
    make("h4", {}, name),
    make("div", { class: "meter", "--share": masked, "aria-hidden": "true" }, make("span")),
    make("dl", {}, ...rows.map(([key, fact]) => make("div", {}, make("dt", {}, key), make("dd", {}, fact)))));
}
