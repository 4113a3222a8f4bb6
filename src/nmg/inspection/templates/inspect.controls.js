/* Keys and toolbar. */

function isTyping(element) {
  return element.matches("input, select, textarea");
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key, target } = event;
  if (key === "Escape") {
    if (target.id === "search" && target.value) { target.value = ""; search(""); } else if (state.at) closeDetails();
    else if (isTyping(target)) target.blur();
    return;
  }
  if (isTyping(target)) return;
  const isToken = target.classList.contains("token");
  if (isToken && onTokenKey(event)) { event.preventDefault(); return; }
  if (target.getAttribute("role") === "tab" && (key === "ArrowLeft" || key === "ArrowRight")) {
    const other = target.id === "tab-texts" ? "corpus" : "texts";
    openTab(other);
    byId(`tab-${other}`).focus();
    return;
  }
  const isTexts = !byId("panel-texts").hidden;
  if (/^[1-9]$/.test(key) && Number(key) <= state.on.length) toggle(Number(key) - 1);
  else if (key === "/") { openTab("texts"); byId("search").focus(); byId("search").select(); event.preventDefault(); }
  else if (key === "t") openTab("texts");
  else if (key === "c") openTab("corpus");
  else if (isTexts && key === "s") setShade(state.shade === "drawn" ? "chance" : "drawn");
  else if (isTexts && (key === "j" || (key === "ArrowRight" && !isToken))) turn(1);
  else if (isTexts && (key === "k" || (key === "ArrowLeft" && !isToken))) turn(-1);
}

/* Returns true if the token handles the key. */
function onTokenKey({ key, target }) {
  if (key === "Enter" || key === " ") { choose(target); return true; }
  const column = [...document.querySelectorAll(`.view[data-masking="${placeOf(target).masking}"] .token`)];
  const at = column.indexOf(target);
  const line = [...target.parentElement.querySelectorAll(".token")];
  const goals = {
    ArrowRight: () => column[at + 1],
    ArrowLeft: () => column[at - 1],
    ArrowDown: () => nextLine(target, column.slice(at + 1), 1),
    ArrowUp: () => nextLine(target, column.slice(0, at), -1),
    Home: () => line[0],
    End: () => line[line.length - 1],
  };
  if (!(key in goals)) return false;
  const goal = goals[key]();
  if (goal) {
    setStop(goal);
    goal.focus();
    if (state.at) choose(goal);
  }
  return true;
}

/* The nearest token in the line above (−1) or below (1). */
function nextLine(token, others, direction) {
  const own = token.getBoundingClientRect();
  const middle = (own.left + own.right) / 2;
  let best = null;
  for (const other of others) {
    const box = other.getBoundingClientRect();
    const down = (box.top - own.top) * direction;
    if (down < own.height / 2) continue;
    const aside = Math.max(box.left - middle, middle - box.right, 0);
    if (!best || down < best.down - 4 || (down < best.down + 4 && aside < best.aside)) best = { down, aside, other };
  }
  return best?.other;
}

/* ---- toolbar */

function toggle(masking) {
  state.on[masking] = !state.on[masking];
  showToggles();
  showPage();
  if (!state.at) showCorpusSummary();
  if (!byId("panel-corpus").hidden) showCorpus();
}

function showToggles() {
  byId("maskings").childNodes.forEach((button, m) => button.setAttribute("aria-pressed", state.on[m]));
}

function openTab(name) {
  for (const one of ["texts", "corpus"]) {
    const tab = byId(`tab-${one}`);
    tab.setAttribute("aria-selected", one === name);
    tab.tabIndex = one === name ? 0 : -1;
    byId(`panel-${one}`).hidden = one !== name;
  }
  if (name === "corpus") showCorpus();
}

function fillToolbar() {
  byId("maskings").replaceChildren(...corpus.maskings.map(({ name, about }, m) => {
    const hint = m < 9 ? [make("kbd", { "aria-hidden": "true" }, String(m + 1))] : [];
    const button = make("button", { type: "button", title: about, "data-series": m % 6 }, name, ...hint);
    button.addEventListener("click", () => toggle(m));
    return button;
  }));
  showToggles();
  const orders = [{ label: "as in the file", numbers: null, sign: 1 }];
  data.maskings.forEach(({ entropy }, m) => {
    const { name } = corpus.maskings[m];
    if (entropy) orders.push({ label: `entropy of ${name}, lowest first`, numbers: entropy, sign: 1 });
    if (entropy) orders.push({ label: `entropy of ${name}, highest first`, numbers: entropy, sign: -1 });
  });
  const select = byId("order");
  select.replaceChildren(...orders.map(({ label }, i) => make("option", { value: i }, label)));
  select.closest("label").hidden = orders.length === 1;
  select.addEventListener("change", () => {
    ({ numbers: state.order, sign: state.sign } = orders[Number(select.value)]);
    state.page = 0;
    refresh();
  });
}

function setShade(shade) {
  state.shade = shade;
  byId("shade").value = shade;
  showLegend();
  showPage();
}

const LEGENDS = {
  drawn: {
    steps: [0, 0.05, 0.25, 0.5, 1].map((share) => [`${share * 100} %`, Math.sqrt(share)]),
    words: `of ${corpus.draws.toLocaleString("en")} draws`,
  },
  chance: {
    steps: [["÷ 4", -1], ["÷ 2", -0.5], ["equal", 0], ["× 2", 0.5], ["× 4", 1]],
    words: "relative to equal chances (policies: probability; rules: draws)",
  },
};

function showLegend() {
  const { steps, words } = LEGENDS[state.shade];
  const swatches = steps.map(([label, shade]) =>
    make("span", { class: `step${shade < 0 ? " less" : ""}`, "--p": Math.abs(shade) }, label));
  byId("scale").replaceChildren(...swatches, make("span", { class: "words" }, words));
}

function listen() {
  let waiting = 0;
  byId("search").addEventListener("input", ({ target }) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { openTab("texts"); search(target.value); }, 100);
  });
  byId("search-form").addEventListener("submit", (event) => event.preventDefault());
  byId("page").addEventListener("change", ({ target }) => {
    turn(Number(target.value) - 1 - state.page);
    target.value = state.page + 1; /* an invalid number becomes the nearest page */
  });
  for (const button of document.querySelectorAll(".pager button")) {
    button.addEventListener("click", () => turn(Number(button.dataset.step)));
  }
  for (const name of ["texts", "corpus"]) byId(`tab-${name}`).addEventListener("click", () => openTab(name));
  byId("texts").addEventListener("click", ({ target }) => { if (target.matches(".token")) choose(target); });
  document.addEventListener("keydown", onKey);
  byId("shade").addEventListener("change", ({ target }) => setShade(target.value));
}

closeDetails();
fillToolbar();
listen();
showLegend();
refresh();
