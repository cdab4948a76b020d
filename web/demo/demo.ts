// The live side of the demo page. Everything it shows is rendered by the server;
// without it the page shows the latest rows as they were when it was loaded.
import { fragment } from "../html";

/** What the server sends on each event: rows newest first, and the facts. */
interface Update {
  reset: boolean; // the rows replace what is shown: the server was started anew
  changes: string;
  webhooks: string;
  facts: Record<string, string>;
  done: number;
  total: number;
}

const root = document.querySelector<HTMLElement>("[data-stream]")!;
const lists = [...document.querySelectorAll<HTMLOListElement>(".list > ol")];
const state = document.querySelector<HTMLElement>(".live")!;
const pause = document.querySelector<HTMLButtonElement>("#pause")!;
const status = document.querySelector<HTMLElement>("#status")!;
const loading = document.querySelector<HTMLElement>(".loading")!;
const applies = document.querySelector<HTMLElement>(".applies");
const sheet = document.querySelector<HTMLDialogElement>(".sheet")!;
const rowsShown = Number(root.dataset.rows);

let last = root.dataset.last!;
let source: EventSource | undefined;
let paused = false;
let lost = false;
let reading = false; // the pointer or the focus is on a row
const waiting: DocumentFragment[] = lists.map(() => document.createDocumentFragment());

function connect(): void {
  source?.close();
  source = undefined;
  if (document.hidden) return;
  const url = new URL(root.dataset.stream!, location.href);
  url.searchParams.set("after", last);
  source = new EventSource(url);
  source.onopen = () => { lost = false; show(); };
  source.onerror = () => {
    lost = true;
    show();
    if (source?.readyState === EventSource.CLOSED) setTimeout(connect, 5000); // refused: the browser does not try again by itself
  };
  source.addEventListener("update", (e: MessageEvent<string>) => {
    last = e.lastEventId;
    take(JSON.parse(e.data) as Update);
  });
}

function take(u: Update): void {
  for (const [name, value] of Object.entries(u.facts)) {
    for (const e of document.querySelectorAll(`[data-fact="${name}"]`)) e.textContent = value;
  }
  loading.hidden = u.done >= u.total;
  const bar = loading.querySelector("progress")!;
  bar.max = u.total || 1;
  bar.value = u.done;
  if (u.reset) {
    lists.forEach((list, i) => { list.replaceChildren(); waiting[i].replaceChildren(); });
  }
  [u.changes, u.webhooks].forEach((html, i) => {
    const rows = fragment(html);
    for (const row of rows.querySelectorAll(".row")) row.classList.add("new");
    waiting[i].prepend(rows);
    while (waiting[i].childElementCount > rowsShown) waiting[i].lastElementChild!.remove();
  });
  if (u.changes || u.webhooks) void renew();
  show();
}

/** Shows what applies to the citizen anew, unless the reader is in it. */
async function renew(): Promise<void> {
  if (!applies || applies.contains(document.activeElement)) return;
  const answer = await fetch(applies.dataset.source!);
  if (answer.ok) applies.replaceChildren(fragment(await answer.text()));
}
applies?.addEventListener("focusout", () => setTimeout(renew));

/** Shows the rows that wait, unless the reader is at it, and says which it is. */
function show(): void {
  const count = waiting[0].childElementCount;
  const held = paused || reading || sheet.open || lists.some((l) => l.querySelector("details[open]"));
  if (!held) {
    lists.forEach((list, i) => {
      list.prepend(waiting[i]);
      while (list.childElementCount > rowsShown) list.lastElementChild!.remove();
    });
  }
  const more = count === 0 ? "" : `, ${count}${count === rowsShown ? " or more" : ""} new`;
  state.dataset.state = lost ? "lost" : paused ? "paused" : held ? "held" : "live";
  state.textContent = lost ? "Connection lost, trying again" : paused ? `Paused${more}` : held ? `Held while you read${more}` : "Live";
}

pause.addEventListener("click", () => {
  paused = !paused;
  pause.querySelector("span")!.textContent = paused ? "Resume" : "Pause";
  for (const icon of pause.querySelectorAll<HTMLElement>("i")) icon.hidden = !icon.hidden;
  show();
});

// Rows of one citizen belong together: what is pointed at or focused in one list is
// marked in the other.
function mark(at: EventTarget | null): void {
  const citizen = (at as Element | null)?.closest<HTMLElement>(".row")?.dataset.citizen;
  for (const row of document.querySelectorAll<HTMLElement>(".row")) {
    row.classList.toggle("linked", citizen !== undefined && row.dataset.citizen === citizen);
  }
  reading = citizen !== undefined;
  if (!reading) show();
}
for (const list of lists) {
  list.addEventListener("pointerover", (e) => { if (e.pointerType === "mouse") mark(e.target); });
  list.addEventListener("pointerleave", () => mark(document.activeElement));
  list.addEventListener("focusin", (e) => mark(e.target));
  list.addEventListener("focusout", (e) => mark(e.relatedTarget));
  list.addEventListener("toggle", (e) => { void body(e.target as HTMLDetailsElement); }, true);
}

/** Puts the full body of a webhook in its place when it is opened first. */
async function body(details: HTMLDetailsElement): Promise<void> {
  const link = details.querySelector("a");
  if (details.open && link) {
    const answer = await fetch(link.href);
    const pre = document.createElement("pre");
    pre.className = "code";
    pre.tabIndex = 0;
    pre.setAttribute("role", "region");
    pre.setAttribute("aria-label", link.dataset.label!);
    pre.textContent = answer.ok ? await answer.text() : "This message is no longer kept.";
    link.replaceWith(pre);
  }
  show();
}

// Why an option stands as it does is shown beside the lists, not instead of them.
document.addEventListener("click", (e) => {
  const link = (e.target as Element).closest<HTMLAnchorElement>("a[data-why]");
  if (!link || e.button !== 0 || e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  void ask(new URL(link.href));
});
sheet.addEventListener("submit", (e) => {
  const form = e.target as HTMLFormElement;
  if (form.method === "dialog") return;
  e.preventDefault();
  const url = new URL(form.action);
  for (const [name, value] of new FormData(form)) url.searchParams.set(name, value as string);
  void ask(url);
});
sheet.addEventListener("click", (e) => { if (e.target === sheet) sheet.close(); }); // beside it
sheet.addEventListener("close", show);

/** Asks what the address of a page asks, and shows the answer in the sheet. */
let question = 0;
async function ask(page: URL): Promise<void> {
  const mine = ++question;
  try {
    const answer = await fetch("/demo/why" + page.search);
    if (!answer.ok) throw new Error(answer.statusText);
    const why = fragment(await answer.text());
    if (mine !== question) return; // asked again meanwhile
    sheet.querySelector(".asked")!.replaceChildren(why);
  } catch {
    location.assign(page); // as without scripts
    return;
  }
  if (!sheet.open) sheet.showModal();
  sheet.querySelector<HTMLElement>("h2")!.focus();
  show();
}

for (const button of document.querySelectorAll<HTMLButtonElement>("[data-copy]")) {
  const label = button.querySelector("span")!;
  button.addEventListener("click", async () => {
    const code = document.getElementById(button.dataset.copy!)!;
    try {
      await navigator.clipboard.writeText(code.textContent!);
      label.textContent = status.textContent = "Copied";
    } catch {
      getSelection()!.selectAllChildren(code);
      label.textContent = status.textContent = "Selected";
    }
    setTimeout(() => { label.textContent = "Copy"; }, 2000);
  });
}

// A screen reader hears of the traffic twice a minute, not at every row.
let told = "";
setInterval(() => {
  const [recorded, delivered] = ["recorded", "delivered"].map((f) => document.querySelector(`[data-fact=${f}]`)!.textContent);
  const now = `${recorded} changes recorded, ${delivered} webhooks delivered.`;
  if (!paused && !document.hidden && now !== told) status.textContent = told = now;
}, 30_000);

document.addEventListener("visibilitychange", connect);
connect();
