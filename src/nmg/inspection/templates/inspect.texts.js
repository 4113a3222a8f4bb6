/* The page of texts: find, sort, show. */

function search(query) {
  state.terms = parseTerms(query);
  state.page = 0;
  refresh();
}

/* Find, sort, show. */
function refresh() {
  const all = data.texts.map((_, text) => text);
  state.shown = all.filter((text) => state.terms.every((term) => findTerm(foldedText(text), term) >= 0));
  if (state.order) state.shown.sort((a, b) => state.sign * (state.order[a] - state.order[b]) || a - b);
  const count = `${state.shown.length.toLocaleString("en")}`;
  const of = state.terms.length ? ` of ${all.length.toLocaleString("en")}` : "";
  byId("found").textContent = `${count}${of} ${corpus.unit}${all.length === 1 ? "" : "s"}`;
  showPage();
}

/* ---- the page of texts */

function visible() {
  return corpus.maskings.map((_, m) => m).filter((m) => state.on[m]);
}

function countPages() {
  return Math.max(Math.ceil(state.shown.length / PAGE_SIZE), 1);
}

function showPage() {
  state.page = Math.min(Math.max(state.page, 0), countPages() - 1);
  const texts = state.shown.slice(state.page * PAGE_SIZE, (state.page + 1) * PAGE_SIZE);
  const empty = make("p", { class: "empty" }, visible().length ? `No ${corpus.unit} contains all of these words.` : "No masking is selected.");
  byId("texts").replaceChildren(...(texts.length && visible().length ? texts.map(article) : [empty]));
  byId("page").value = state.page + 1;
  byId("page").max = countPages();
  byId("pages").textContent = `of ${countPages().toLocaleString("en")}`;
  for (const button of document.querySelectorAll(".pager button")) {
    const step = Number(button.dataset.step);
    button.disabled = state.page + step < 0 || state.page + step >= countPages();
  }
  byId("greedy-key").hidden = !visible().some((m) => data.maskings[m].taken);
  if (state.at && !tokenElement(state.at)) closeDetails();
  setStop(state.at ? tokenElement(state.at) : document.querySelector("#texts .token"));
  if (state.at) markChosen();
}

function turn(step) {
  const page = Math.min(Math.max(state.page + step, 0), countPages() - 1);
  if (page === state.page) return;
  state.page = page;
  showPage();
  const top = byId("panel-texts").getBoundingClientRect().top;
  if (top < 0) byId("panel-texts").scrollIntoView();
}

function article(text) {
  const tokens = tokensOf(text);
  const hits = hitsOf(text, tokens);
  const note = `${tokens.length} tokens, ${budget(text)} masked`;
  return make("article", { "data-text": text, "aria-label": data.titles[text] },
    make("h3", {}, data.titles[text], " ", make("small", {}, note)),
    make("div", { class: "views" }, ...visible().map((masking) => view(text, masking, tokens, hits))));
}

/* From −1 to 1; below 0 in the colour for less. */
function shadeOf(masking, text, token) {
  if (state.shade === "chance") return level(toChance(masking, text, token));
  return Math.sqrt(share(masking, text, token)); /* a square root: small shares stay visible */
}

function view(text, masking, tokens, hits) {
  const { entropy } = data.maskings[masking];
  const facts = [];
  if (entropy) facts.push(`entropy ${entropy[text].toFixed(2)} of ${Math.log(tokens.length).toFixed(2)} nats`);
  const { name } = corpus.maskings[masking];
  const line = make("p", { class: "tokens", role: "group", "aria-label": `${data.titles[text]}, ${name}` });
  const taken = takenOf(masking, text);
  const content = data.texts[text];
  let end = 0;
  tokens.forEach((token, i) => {
    if (token.start > end) line.append(content.slice(end, token.start));
    const shade = shadeOf(masking, text, i);
    line.append(make("span", {
      class: `token${taken.has(i) ? " masked" : ""}${hits[i] ? " hit" : ""}${shade < 0 ? " less" : ""}`,
      "data-token": i, role: "button", tabindex: -1, "--p": Math.abs(shade).toFixed(3),
    }, content.slice(token.start, token.end) || "·"));
    end = token.end;
  });
  line.append(content.slice(end));
  return make("div", { class: "view", "data-masking": masking },
    make("h4", {}, make("span", { class: "name", "data-series": masking % 6 }, name),
      ...facts.flatMap((fact) => [" ", make("small", {}, fact)])), line);
}
