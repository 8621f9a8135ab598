// Sends chosen files to POST /upload, a few at a time, with progress; tells Python the ids of those that arrived.
// Streamlit calls the exported function again at every rerun of the page: what must live longer hangs on `living`.

const living = new WeakMap();
const AT_ONCE = 2;

export default function (component) {
  const { parentElement, data, setStateValue } = component;
  let uploader = living.get(parentElement);
  if (!uploader) {
    uploader = new Uploader(parentElement);
    living.set(parentElement, uploader);
  }
  uploader.report = (value) => setStateValue("uploads", value);
  uploader.limits = data;
  uploader.sayLimits();
  return () => {};
}

class Uploader {
  constructor(root) {
    this.find = (selector) => root.querySelector(selector);
    this.together = randomHex();
    this.items = [];
    const zone = this.find(".zone");
    const pick = this.find(".pick");
    for (const button of root.querySelectorAll(".choose")) {
      button.addEventListener("click", () => {
        pick.webkitdirectory = button.classList.contains("folder");
        pick.click();
      });
    }
    pick.addEventListener("change", () => {
      // The folder of a file says which files belong together; of files that were chosen one by one it is empty.
      this.add([...pick.files].map((file) => Object.assign(file, { place: file.webkitRelativePath })));
      pick.value = "";
    });
    for (const kind of ["dragenter", "dragover"]) {
      zone.addEventListener(kind, (event) => {
        event.preventDefault();
        zone.classList.add("over");
      });
    }
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", async (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      this.add(await droppedFiles(event.dataTransfer));
    });
  }

  sayLimits() {
    const { upload_mib, study_mib, study_files, words } = this.limits;
    this.find(".limits").textContent = words ||
      `DICOM, PNG, JPEG, TIFF, WebP or zip. At most ${upload_mib} MiB a file; ` +
      `${study_files} files and ${study_mib} MiB a study.`;
  }

  add(files) {
    for (const file of files) {
      const item = { file, state: "waiting", sent: 0, id: null, refused: "" };
      item.refused = this.refusal(file);
      if (item.refused) item.state = "refused";
      this.items.push(item);
      this.draw(item);
    }
    this.next();
    this.tell();
  }

  // The server holds these limits too; asked here first, nobody waits for an upload that cannot succeed.
  refusal(file) {
    const { upload_mib, study_mib, study_files } = this.limits;
    const others = this.items.filter((item) => item.state !== "refused");
    const bytes = others.reduce((sum, item) => sum + item.file.size, 0);
    if (file.size === 0) return "The file is empty.";
    if (file.size > upload_mib * 1048576) return `The file is larger than ${upload_mib} MiB.`;
    if (others.length >= study_files) return `A study has at most ${study_files} files.`;
    if (bytes + file.size > study_mib * 1048576) return `The files together are larger than ${study_mib} MiB.`;
    return "";
  }

  next() {
    const free = AT_ONCE - this.items.filter((item) => item.state === "sending").length;
    this.items.filter((item) => item.state === "waiting").slice(0, free).forEach((item) => this.send(item));
  }

  send(item) {
    item.state = "sending";
    const request = (item.request = new XMLHttpRequest());
    request.open("POST", "/upload");
    request.setRequestHeader("X-Together", this.together);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      item.sent = event.loaded;
      this.redraw(item);
    };
    request.onload = () => this.answered(item, request);
    request.onerror = () => this.done(item, null, "The connection broke. Remove the file here and choose it again.");
    request.send(item.file);
    this.redraw(item);
  }

  answered(item, request) {
    let answer = {};
    try {
      answer = JSON.parse(request.responseText);
    } catch {
      // A guard or a proxy answered in plain text.
    }
    if (request.status === 201 && answer.id) this.done(item, answer.id, "");
    else this.done(item, null, answer.refused || request.responseText.slice(0, 200) || "The server refused this file.");
  }

  done(item, id, refused) {
    item.id = id;
    item.refused = refused;
    item.state = id ? "here" : "refused";
    this.redraw(item);
    this.next();
    this.tell();
  }

  remove(item) {
    item.request?.abort();
    if (item.id) fetch(`/upload/${this.together}/${item.id}`, { method: "DELETE" });
    this.items.splice(this.items.indexOf(item), 1);
    const after = item.line.nextElementSibling || item.line.previousElementSibling;
    item.line.remove();
    (after?.querySelector(".remove") || this.find(".choose")).focus();
    this.next();
    this.tell();
  }

  // Python hears of it when uploading begins (so that nothing is saved by half) and when all is there.
  tell() {
    const here = this.items.filter((item) => item.state === "here");
    const waiting = this.items.filter((item) => ["waiting", "sending"].includes(item.state)).length;
    this.find(".told").textContent = waiting
      ? `${here.length} of ${here.length + waiting} files uploaded`
      : here.length ? `${here.length} ${here.length === 1 ? "file" : "files"} uploaded` : "";
    const files = waiting ? [] : here.map((item) => ({ id: item.id, name: item.file.place || item.file.name }));
    const value = { together: this.together, is_busy: waiting > 0, files };
    const text = JSON.stringify(value);
    if (text !== this.told && (this.told || files.length || waiting)) {
      this.told = text;
      this.report(value);
    }
  }

  draw(item) {
    const line = (item.line = document.createElement("li"));
    const parts = [["name", item.file.name], ["size", sizeWords(item.file.size)], ["state", ""]];
    for (const [kind, text] of parts) {
      const span = document.createElement("span");
      span.className = kind;
      span.textContent = text;
      line.append(span);
    }
    line.querySelector(".name").title = item.file.name;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${item.file.name}`);
    remove.addEventListener("click", () => this.remove(item));
    line.append(remove);
    this.find(".files").append(line);
    this.redraw(item);
  }

  redraw(item) {
    const state = item.line.querySelector(".state");
    item.line.querySelector(".refused")?.remove();
    if (item.state === "waiting" || item.state === "sending") {
      let bar = state.querySelector("progress");
      if (!bar) {
        bar = document.createElement("progress");
        bar.setAttribute("aria-label", `Upload of ${item.file.name}`);
        state.replaceChildren(bar);
      }
      bar.max = item.file.size;
      bar.value = item.sent;
      return;
    }
    state.textContent = item.state === "here" ? "uploaded" : "";
    if (item.state === "refused") {
      const why = document.createElement("span");
      why.className = "refused";
      why.textContent = item.refused;
      item.line.append(why);
    }
  }
}

async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  return (await Promise.all(entries.map(filesUnder))).flat();
}

async function filesUnder(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    file.place = entry.fullPath.replace(/^\/+/, ""); // its folder says which files belong together
    return [file];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A folder answers a hundred entries at a time, then none.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...(await Promise.all(some.map(filesUnder))).flat());
  }
}

function randomHex() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sizeWords(bytes) {
  return bytes < 1048576 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`;
}
