// The live page. In order: what the server tells (Server-Sent Events), cameras and their pictures, scenes, searching.
// The server's words are put into the page as text, never as HTML.

const byId = (id) => document.getElementById(id);
const copy = (id) => byId(id).content.firstElementChild.cloneNode(true);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const now = () => Date.now() / 1000 + clockOffset; // the server's clock

const SILENCE = 15; // seconds without a word after which the server counts as gone; it pulses every 5
const PAUSE = 0.1; // seconds between two pictures of a camera
const ALIKE = 0.9; // scenes with this share of the best score are marked, too

const cameras = []; // by number: {stream, card, lane, picture: number of the newest one}
const scenes = new Map(); // by key: {scene, item: its <li>}
let clockOffset = 0;
let heard = -Infinity; // when the server last said something, by performance.now()
let keep = Infinity; // scenes of each stream that the server keeps
let run = null; // names the run of the server that the page shows

// ---- What the server tells

function listen() {
  const events = new EventSource("/api/events");
  const on = (kind, take) =>
    events.addEventListener(kind, (event) => {
      heard = performance.now();
      take(JSON.parse(event.data));
      showSummary();
    });
  on("snapshot", showSnapshot);
  on("stream", showStream);
  on("scene", showScene);
  on("pulse", (time) => setClock(time));
  events.onerror = async () => {
    heard = -Infinity;
    showSummary();
    if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    await sleep(3);
    const answer = await fetch("/api/health").catch(() => null);
    if (answer?.status === 401) location.reload(); // the token has changed
    else listen();
  };
}

function showSnapshot(snapshot) {
  if (run && run !== snapshot.run) location.reload(); // other streams, perhaps, that count from 0 in any case
  run = snapshot.run;
  setClock(snapshot.time);
  keep = snapshot.keep;
  byId("words").hidden = !snapshot.abilities.words;
  scenes.clear();
  document.querySelectorAll(".lane .ribbon, .lane .scenes").forEach((list) => list.replaceChildren());
  snapshot.streams.forEach(showStream);
  snapshot.scenes.forEach(addScene);
  for (const list of document.querySelectorAll(".lane ol")) list.scrollLeft = list.scrollWidth;
}

const setClock = (time) => (clockOffset = time - Date.now() / 1000);
const isConnected = () => performance.now() - heard < SILENCE * 1000;

function showSummary() {
  const counts = { live: 0, connecting: 0, finished: 0, dead: 0 };
  for (const { stream } of cameras) counts[isDead(stream) ? "dead" : isFinished(stream) ? "finished" : stream.state]++;
  const parts = Object.entries(counts).filter(([, count]) => count);
  const said = parts.map(([state, count]) => `${count} ${state}`).join(", ") || "no cameras";
  const text = isConnected() ? said : "no connection to vsdk";
  const summary = byId("summary");
  summary.className = !isConnected() || counts.dead ? "bad" : counts.connecting ? "" : "good";
  if (summary.textContent !== text) summary.textContent = text; // it is read out when it changes
  document.title = text.includes("dead") || !isConnected() ? `${text} - vsdk` : "vsdk";
  cameras.forEach(showState);
}

// ---- Cameras

const isFinished = ({ live, state, reason }) => !live && state === "ended" && reason === "end";
const isDead = (stream) => ["stalled", "reconnecting", "ended"].includes(stream.state) && !isFinished(stream);

function showStream(stream) {
  const camera = (cameras[stream.stream] ??= addCamera(stream));
  if (isDead(stream) && camera.stream.state !== stream.state) announce(`${stream.name}: ${stream.state}`);
  camera.stream = stream;
  showHealth(camera);
  showState(camera);
}

function addCamera(stream) {
  const camera = { stream, card: copy("camera"), lane: copy("lane"), picture: 0 };
  camera.card.querySelector(".name").textContent = stream.name;
  camera.card.querySelector("img").alt = `Newest picture of ${stream.name}`;
  camera.lane.querySelector("h2").append(stream.name, document.createElement("small"));
  camera.lane.querySelector("ol").setAttribute("aria-label", `Scenes of ${stream.name}`);
  byId("cameras").append(camera.card);
  byId("timeline").append(camera.lane);
  watch(camera);
  return camera;
}

function showState(camera) {
  const { stream, card } = camera;
  const dead = !isConnected() || isDead(stream);
  card.className = `camera ${dead ? "is-dead" : isFinished(stream) ? "finished" : stream.state}`;
  card.querySelector(".state").textContent = isFinished(stream) ? "finished" : isConnected() ? stream.state : "unknown";
  const lines = [`${stream.state} since ${clock(stream.since)} (${length(now() - stream.since)})`, stream.message];
  if (stream.retry) lines.push(stream.retry > now() ? `next try in ${length(stream.retry - now())}` : "trying");
  const note = card.querySelector(".dead");
  note.hidden = !dead;
  note.textContent = isConnected() ? lines.filter(Boolean).join("\n") : "no connection to vsdk";
}

function showHealth({ stream, card }) {
  const facts = [
    ["frames/s", stream.frames_per_second?.toFixed(1)],
    ["latency p95", stream.latency_p95 == null ? null : `${Math.round(stream.latency_p95 * 1000)} ms`],
    ["frames", stream.frames],
    ["dropped", stream.live ? stream.dropped : null],
    ["damaged", stream.decode_errors, true],
    ["reconnects", stream.live ? stream.reconnects : null, true],
  ].filter(([, value]) => value != null);
  card.querySelector(".health").replaceChildren(
    ...facts.map(([name, value, bad]) => {
      const fact = document.createElement("div");
      fact.append(Object.assign(document.createElement("dt"), { textContent: name }));
      fact.append(Object.assign(document.createElement("dd"), { textContent: value, className: bad && value ? "bad" : "" }));
      return fact;
    }),
  );
}

// Asks for one picture after the other, while anybody can see them: a slow connection gets fewer, never old ones.
async function watch(camera) {
  const image = camera.card.querySelector("img");
  let visible = true;
  new IntersectionObserver(([entry]) => (visible = entry.isIntersecting)).observe(camera.card);
  for (;;) await sleep(visible && !document.hidden ? await showNewest(camera, image).catch(() => 2) : 0.5);
}

// Gives the seconds until it is worth to ask again.
async function showNewest(camera, image) {
  const address = `/api/streams/${camera.stream.stream}/picture?after=${camera.picture}`;
  const answer = await fetch(address, { signal: AbortSignal.timeout(10000) });
  if (answer.status !== 200) return answer.status === 204 ? 0.4 : 2;
  const before = image.src;
  camera.picture = Number(answer.headers.get("Vsdk-Picture"));
  image.src = URL.createObjectURL(await answer.blob());
  await image.decode().catch(() => {});
  URL.revokeObjectURL(before);
  image.hidden = false;
  const time = camera.card.querySelector("time");
  time.textContent = camera.stream.live ? clock(answer.headers.get("Vsdk-Taken")) : since(answer.headers.get("Vsdk-Time"));
  time.hidden = false;
  showOpenScene(camera);
  return PAUSE;
}

function showOpenScene(camera) {
  const tag = camera.card.querySelector(".scene");
  const last = camera.lane.querySelector("ol").lastElementChild;
  const index = last ? scenes.get(last.dataset.key).scene.index + !isFinished(camera.stream) : 0;
  tag.textContent = `scene ${index}`;
  tag.style.setProperty("--color", color(index));
  tag.hidden = false;
}

// ---- Scenes

const keyOf = (scene) => `${scene.stream}-${scene.index}`;

// A scene that has just closed: whoever looks at the newest ones goes on doing so.
function showScene(scene) {
  const list = cameras[scene.stream].lane.querySelector("ol");
  const atEnd = list.scrollWidth - list.scrollLeft - list.clientWidth < 80;
  addScene(scene);
  if (atEnd) list.scrollLeft = list.scrollWidth;
}

function addScene(scene) {
  const camera = cameras[scene.stream];
  if (scenes.has(keyOf(scene))) return;
  const list = camera.lane.querySelector("ol");
  const item = sceneItem(scene);
  list.append(item);
  scenes.set(keyOf(scene), { scene, item });
  const part = document.createElement("span");
  part.style.setProperty("--color", color(scene.index));
  part.style.setProperty("--length", Math.max(scene.end - scene.start, 0.04));
  const ribbon = camera.lane.querySelector(".ribbon");
  ribbon.append(part);
  while (list.children.length > keep) {
    scenes.delete(list.firstElementChild.dataset.key);
    list.firstElementChild.remove();
    ribbon.firstElementChild.remove();
  }
  if (!list.querySelector("[tabindex='0']")) item.firstElementChild.tabIndex = 0;
  camera.lane.querySelector(".empty").hidden = true;
  camera.lane.querySelector("small").textContent = `${list.children.length} scene${list.children.length > 1 ? "s" : ""}`;
}

function sceneItem(scene) {
  const item = copy("scene");
  const find = (selector) => item.querySelector(selector);
  item.dataset.key = keyOf(scene);
  item.style.setProperty("--color", color(scene.index));
  if (scene.thumbnail) find("img").src = thumbnailOf(scene);
  find(".number").textContent = scene.index;
  find(".length").textContent = length(scene.end - scene.start);
  find(".when").textContent = whenOf(scene);
  find(".where").textContent = cameras[scene.stream].stream.name;
  find("button").setAttribute("aria-label", `Scene ${scene.index}, ${whenOf(scene)}, ${length(scene.end - scene.start)} long`);
  find("button").onclick = () => showDetails(scene);
  return item;
}

const thumbnailOf = (scene) => `/api/streams/${scene.stream}/scenes/${scene.index}/picture`;
const isLive = (scene) => cameras[scene.stream].stream.live;
const whenOf = (scene) => (isLive(scene) ? clock(scene.closed - (scene.end - scene.start)) : `${since(scene.start)} - ${since(scene.end)}`);

function showDetails(scene) {
  const dialog = byId("details");
  dialog.querySelector("h2").textContent = `${cameras[scene.stream].stream.name}, scene ${scene.index}`;
  dialog.querySelector("img").hidden = !scene.thumbnail;
  dialog.querySelector("img").src = thumbnailOf(scene);
  dialog.querySelector("p").textContent =
    `${whenOf(scene)}, ${length(scene.end - scene.start)}\n` + `frames ${scene.start_frame} to ${scene.end_frame}`;
  dialog.onclose = () => {
    if (dialog.returnValue === "similar") search(`?stream=${scene.stream}&scene=${scene.index}`, `like scene ${scene.index}`, thumbnailOf(scene));
  };
  dialog.returnValue = "";
  dialog.showModal();
}

// One stop of the tabulator for each list of scenes; within it the arrows move.
document.addEventListener("keydown", (event) => {
  const item = event.target.closest?.(".scenes li");
  if (!item) return;
  const list = item.parentElement;
  const next = {
    ArrowLeft: item.previousElementSibling,
    ArrowRight: item.nextElementSibling,
    Home: list.firstElementChild,
    End: list.lastElementChild,
  }[event.key];
  if (!next) return;
  event.preventDefault();
  item.firstElementChild.tabIndex = -1;
  next.firstElementChild.tabIndex = 0;
  next.firstElementChild.focus();
});

// ---- Searching

async function search(query, asked, example, body) {
  byId("problem").hidden = true;
  const answer = await fetch(`/api/search${query}`, body ? { method: "POST", body } : {}).catch(() => null);
  const said = await answer?.json().catch(() => null);
  if (!answer?.ok || !said) {
    byId("problem").textContent = said ? [said.error, said.hint].filter(Boolean).join(". ") : "vsdk does not answer";
    byId("problem").hidden = false;
    return;
  }
  clearSearch();
  const list = byId("results").querySelector("ol");
  for (const found of said.scenes) {
    const shown = [sceneItem(found), scenes.get(keyOf(found))?.item].filter(Boolean); // among the results, in its lane
    list.append(shown[0]);
    for (const item of shown) {
      item.classList.toggle("found", found.score >= said.scenes[0].score * ALIKE);
      item.querySelector(".score").textContent = found.score.toFixed(2);
      item.querySelector(".score").hidden = false;
      item.querySelector("button").setAttribute("aria-description", `likeness ${found.score.toFixed(2)}`);
    }
  }
  if (list.firstElementChild) list.firstElementChild.firstElementChild.tabIndex = 0;
  byId("asked").textContent = said.scenes.length ? `Scenes ${asked}` : "There are no scenes to search yet";
  byId("example").src = example || "";
  byId("example").hidden = !example;
  byId("results").hidden = false;
  document.body.classList.add("searched");
  if (said.scenes.length) showInLane(scenes.get(keyOf(said.scenes[0]))?.item);
  announce(`${said.scenes.length} scenes found`);
}

function showInLane(item) {
  if (item) item.parentElement.scrollLeft = item.offsetLeft - (item.parentElement.clientWidth - item.clientWidth) / 2;
}

function clearSearch() {
  byId("results").hidden = true;
  byId("results").querySelector("ol").replaceChildren();
  document.body.classList.remove("searched");
  document.querySelectorAll(".found").forEach((item) => item.classList.remove("found"));
  document.querySelectorAll(".score").forEach((score) => (score.hidden = true));
  document.querySelectorAll(".scene-card").forEach((card) => card.removeAttribute("aria-description"));
  URL.revokeObjectURL(byId("example").src); // of a picture that was searched for; no other address minds
}

function searchFile(file) {
  if (file) search("", "like your picture", URL.createObjectURL(file), file);
}

byId("file").onchange = (event) => {
  searchFile(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
};
byId("words").onsubmit = (event) => {
  event.preventDefault();
  search(`?words=${encodeURIComponent(byId("query").value)}`, `like “${byId("query").value}”`);
};
byId("clear").onclick = clearSearch;
document.addEventListener("paste", (event) => searchFile(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  searchFile(event.dataTransfer.files[0]);
});

// ---- How things are written

// The colours of scenes on contact sheets and in annotated videos: neighbours are far apart on the colour wheel.
const color = (index) => `hsl(${((0.56 + index * 0.618033988749895) % 1) * 360} 62% 62%)`;
const clock = (time) => new Date(time * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const two = (number) => String(Math.floor(number)).padStart(2, "0");

function since(seconds) {
  const [minutes, rest] = [Math.floor(seconds / 60), (Math.floor((seconds % 60) * 10) / 10).toFixed(1).padStart(4, "0")];
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
}

function length(seconds) {
  if (seconds < 60) return seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two((seconds % 3600) / 60)} min`;
}

function announce(text) {
  byId("announcement").textContent = text;
}

listen();
setInterval(showSummary, 1000);
