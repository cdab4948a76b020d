// What a preference page does besides, where scripts run: it counts what is not saved yet,
// says what a switch means when it is used, shows times as the reader's clock does, and
// tells a page around it how tall it is. Nothing on the page needs it.

export {}; // a module, whose names are its own

const lang = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang;
const form = document.querySelector<HTMLFormElement>("#choices");
const status = document.querySelector<HTMLElement>("#status");

/** The fields of the form that are not as they came. */
function changed(): number {
  let n = 0;
  const groups = new Set<string>();
  for (const e of form!.elements) {
    if (!(e instanceof HTMLInputElement) || (e.type !== "checkbox" && e.type !== "radio") || e.checked === e.defaultChecked) continue;
    if (e.type === "radio" || e.name.startsWith("p:")) groups.add(e.name);
    else n++;
  }
  return n + groups.size;
}

function count(): void {
  if (!status) return;
  const n = changed();
  const forms = JSON.parse(status.dataset.forms!) as Record<string, string>;
  status.textContent = n === 0 ? status.dataset.none! : (forms[new Intl.PluralRules(lang).select(n)] ?? forms.other).replace("#", new Intl.NumberFormat(lang).format(n));
}

if (form) {
  form.addEventListener("change", (e) => {
    const input = e.target as HTMLInputElement;
    const said = input.closest("tr,.still,.card")?.querySelector<HTMLElement>(".said");
    if (said && input.dataset.saysOn) said.textContent = (input.checked ? input.dataset.saysOn : input.dataset.saysOff) ?? "";
    count();
  });
  count();
  form.addEventListener("reset", () => {
    for (const s of form.querySelectorAll(".said")) s.textContent = "";
    setTimeout(count);
  });
}

// What is not saved yet goes with every other form, so that a page that refuses one shows it again.
for (const other of document.querySelectorAll<HTMLFormElement>("form[method=post]")) {
  if (form && other !== form) other.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of new FormData(form)) if (name !== "mark") formData.append(name, value);
  });
}

for (const select of document.querySelectorAll<HTMLSelectElement>(".language select")) select.addEventListener("change", () => select.form!.requestSubmit());

document.querySelector<HTMLElement>("[data-first]")?.focus();

for (const time of document.querySelectorAll<HTMLTimeElement>("time[data-clock]")) {
  time.textContent = new Intl.DateTimeFormat(lang, { dateStyle: "long", timeStyle: "short" }).format(new Date(time.dateTime));
}

if (parent !== self) {
  new ResizeObserver(() => parent.postMessage({ opencpm: "height", height: document.documentElement.scrollHeight }, "*")).observe(document.body);
}
