// The page of the kiosk. Everything comes and goes over one WebSocket; see daemon/src/kiosk/live.rs.
"use strict";

const byId = (id) => document.getElementById(id);
// A result is shown while the state names it, which is until the next exam begins, and never longer than this.
const RESULT_MS = 120000;
// Silence after which nothing on the page may be taken for true.
const SILENCE_MS = 2500;

const SHAPES = {
  anemic: "M12 2 23 21H1z",
  non_anemic: "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zm-2 15-4.5-4.5L7 11l3 3 7-7 1.5 1.5z",
  indeterminate: "M12 1 23 12 12 23 1 12z",
  retake: "M12 4a8 8 0 1 0 8 8h-3a5 5 0 1 1-5-5v4l6-5.5L12 0z",
};

let words = {};
let language = "en";
let socket = null;
let heard = 0;
let pictured = 0;
let state = null;
let results = [];
let shownId = null;
// The clock of the kiosk may be another than that of the browser.
let ahead = 0;

const word = (key) => (words[language] && words[language][key]) || (words.en && words.en[key]) || key;

function say(element, text) {
  // A screen reader repeats what is written again.
  if (element.textContent !== text) element.textContent = text;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function send(wish) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(wish));
}

function connect() {
  socket = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/live");
  socket.binaryType = "blob";
  socket.onopen = () => send({ look: !document.hidden });
  socket.onmessage = (event) => {
    heard = performance.now();
    if (typeof event.data !== "string") return showPicture(event.data);
    const message = JSON.parse(event.data);
    if (message.state) {
      state = message.state;
      ahead = Date.parse(message.now) - Date.now();
      say(byId("device"), message.device_id);
      showState();
    }
    if (message.results) {
      results = message.results;
      showResults();
    }
    if (message.answer !== undefined) say(byId("answer"), message.answer ? word("refused_" + message.answer) : "");
  };
  socket.onclose = () => setTimeout(connect, 1000);
}

function showPicture(blob) {
  const picture = byId("picture");
  const old = picture.src;
  picture.src = URL.createObjectURL(blob);
  picture.hidden = false;
  if (old) URL.revokeObjectURL(old);
  pictured = performance.now();
}

const running = () => state !== null && (state.exam.phase === "aligning" || state.exam.phase === "collecting");

function guidance() {
  const exam = state.exam;
  if (!["ready", "fallback"].includes(state.engine.status)) return word("engine_" + state.engine.status);
  if (state.camera.status !== "streaming") return word("camera_" + state.camera.status);
  if (exam.phase === "result") return word("phase_result");
  if (exam.phase === "cancelled") return word("phase_cancelled");
  if (exam.hint) return word("hint_" + exam.hint);
  return word("phase_" + exam.phase);
}

function showState() {
  const exam = state.exam;
  say(byId("guidance"), state.identify ? word("identify") : guidance());
  const box = byId("progress-box");
  box.hidden = exam.phase !== "collecting";
  if (!box.hidden) {
    byId("progress").max = exam.wanted;
    byId("progress").value = exam.good;
    say(byId("progress-text"), word("progress").replace("{good}", exam.good).replace("{wanted}", exam.wanted));
  }
  byId("start").disabled = exam.phase === "collecting" || state.engine.status === "building";
  byId("cancel").disabled = !running();
  say(byId("start"), word(results.length ? "new_exam" : "start"));
  if (running()) say(byId("answer"), "");
  showVerdict();
  showParts();
}

function showParts() {
  const parts = [];
  for (const part of ["camera", "engine", "broker"]) {
    // Without a broker, results are kept and sent later: nothing for which anybody here should stop.
    const good = { camera: ["streaming"], engine: ["ready"], broker: ["connected", "connecting", "lost"] }[part];
    const { status, detail } = state[part];
    const item = element("li", word(part) + ": " + word(part + "_" + status), good.includes(status) ? "" : "bad");
    if (detail) item.title = detail;
    parts.push(item);
  }
  if (state.outbox.waiting > 0) parts.push(element("li", word("waiting") + ": " + state.outbox.waiting));
  if (state.outbox.lost > 0) parts.push(element("li", word("lost_results") + ": " + state.outbox.lost, "bad"));
  if (state.outbox.detail) parts.push(element("li", word("disk_trouble"), "bad"));
  if (state.config.status === "refused") parts.push(element("li", word("config_refused"), "bad"));
  parts.push(element("li", word("model") + ": " + state.model.name + " " + state.model.version + " " + state.model.precision));
  const list = byId("parts");
  if (list.textContent !== parts.map((part) => part.textContent).join("")) list.replaceChildren(...parts);
}

const time = (text) => new Date(text).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const percent = (share) => (share === null ? "–" : new Intl.NumberFormat(language, { style: "percent" }).format(share));

function showVerdict() {
  const result = state && results.find((one) => one.id === state.result);
  const fresh = result && Date.now() + ahead - Date.parse(result.finished_at) < RESULT_MS;
  const id = fresh ? result.id + language : null;
  if (id === shownId) return;
  shownId = id;
  const box = byId("verdict");
  if (!fresh) {
    box.className = "";
    return box.replaceChildren();
  }
  box.className = result.verdict;
  const title = element("h3");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[result.verdict]);
  svg.append(path);
  title.append(svg, element("span", word("verdict_" + result.verdict)));
  const facts = element("dl");
  const fact = (key, value) => facts.append(element("dt", word(key)), element("dd", value));
  if (result.reason) fact("reason", word("hint_" + result.reason));
  if (result.probability !== null) fact("probability", percent(result.probability));
  fact("quality", word("frames").replace("{good}", result.frames.good).replace("{rejected}", result.frames.rejected));
  fact("time", time(result.finished_at));
  fact("model", result.model.name + " " + result.model.version);
  const ages = result.model.age_months;
  fact("made_for", word("months").replace("{from}", ages[0]).replace("{to}", ages[1]));
  box.replaceChildren(title, element("p", word("next_" + result.verdict), "next"), facts);
}

function showResults() {
  showVerdict();
  byId("no-history").hidden = results.length > 0;
  const table = byId("results");
  table.hidden = results.length === 0;
  table.tBodies[0].replaceChildren(
    ...results.map((result) => {
      const row = element("tr");
      row.append(
        element("td", time(result.finished_at)),
        element("td", word("verdict_" + result.verdict)),
        element("td", percent(result.probability)),
      );
      return row;
    }),
  );
}

function showAge() {
  const now = performance.now();
  const silent = now - heard > SILENCE_MS;
  const lost = byId("lost");
  if (lost.hidden === silent) {
    lost.hidden = !silent;
    lost.textContent = silent ? word("no_connection") : "";
  }
  const camera = state ? state.camera.status : "opening";
  const old = camera !== "streaming" || now - pictured > SILENCE_MS;
  byId("picture").classList.toggle("old", old);
  say(byId("veil"), old && state ? word(camera === "streaming" ? "old_picture" : "camera_" + camera) : "");
  say(byId("clock"), new Date().toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" }));
  if (state) showVerdict();
}

function speak(wanted) {
  language = words[wanted] ? wanted : "en";
  document.documentElement.lang = language;
  for (const part of document.querySelectorAll("[data-word]")) part.textContent = word(part.dataset.word);
  byId("picture").alt = word("picture_alt");
  shownId = null;
  if (state) showState();
  showResults();
}

function remembered() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null;
  }
}

async function begin() {
  const answer = await fetch("/words.json");
  words = await answer.json();
  const select = byId("language");
  for (const key of Object.keys(words)) {
    const option = element("option", words[key].language_name || key);
    option.value = key;
    option.lang = key;
    select.append(option);
  }
  const wanted = remembered() || navigator.language;
  speak(words[wanted] ? wanted : wanted.split("-")[0]);
  select.value = language;
  select.onchange = () => {
    speak(select.value);
    try {
      localStorage.setItem("language", select.value);
    } catch {
      // It is asked for again next time.
    }
  };
  byId("start").onclick = () => send({ do: "start" });
  byId("cancel").onclick = () => send({ do: "cancel" });
  document.onvisibilitychange = () => send({ look: !document.hidden });
  heard = performance.now();
  connect();
  setInterval(showAge, 250);
}

begin();
