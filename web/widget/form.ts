// A form of the API, with the answers in it: what the manage and the capture widget share.
import css from "./form.css";
import { type Child, type Failure, type RichText, type State, Widget, h, rich, style } from "./widget";

interface Named { id: string; name: string }

export interface Option {
  optionId: string;
  optionType: string;
  justification: string;
  label: string;
  description?: string;
  card?: { on: string; off: string } | null;
  selected: boolean | null;
  state: string | null;
  party: Named | null;
  purpose: Named | null;
  channel: Named | null;
  directMarketing: boolean;
  suppressed?: boolean;
}

export interface Choice { reference: string; label: string; selected?: boolean }

export interface Block {
  type: string;
  heading?: string;
  statement?: { text: string; content: RichText[] } | null;
  options?: Option[];
  reference?: string;
  label?: string;
  mandatory?: boolean;
  selectedChoice?: string | null;
  choices?: Choice[];
  text?: string;
  content?: RichText[];
}

export interface Form {
  applicationId: string;
  templateId: string;
  locale: string;
  direction?: string;
  snapshot?: string;
  privacyPolicy?: { name: string; version: string; url: string } | null;
  blocks: Block[];
  [other: string]: unknown;
}

/** One thing that can be answered and its answer, as a reader would tell them. */
export interface Answer { name: string; now: string }

style(css);

const copy = <T>(v: T): T => JSON.parse(JSON.stringify(v)) as T;
const single = "single-choice-preference";
let next = 0;

/** Whether an option can be answered at all. */
const open = (o: Option): boolean => !o.suppressed && /^(consent|legitimate-interest)$/.test(o.justification);

const optionsOf = (f: Form): Option[] => f.blocks.flatMap((b) => b.options ?? []);

/** What is the same for every place of a form that asks for the same. */
const keyOf = (o: Option): string => `${o.optionType} ${o.optionId} ${o.justification}`;

export abstract class FormWidget extends Widget {
  protected declare held_: Form | null;
  protected was_?: Form; // as it was loaded or saved last
  protected controls_?: HTMLElement;
  private bound_: (() => void)[] = []; // what shows an answer, to be called when one changes
  protected saving_?: Promise<unknown>;

  override get value(): Form | null { return copy(this.held_); }

  /** Sends the answers; the promise gives what the API answered. */
  submit(): Promise<unknown> {
    return (this.saving_ ??= this.save_().finally(() => { this.saving_ = undefined; }));
  }

  /** Puts the answers back to what was loaded or saved last. */
  reset(): void {
    if (!this.held_) return;
    this.held_.blocks.forEach((b, i) => {
      const was = this.was_!.blocks[i];
      b.selectedChoice = was.selectedChoice;
      b.options?.forEach((o, k) => { o.selected = was.options![k].selected; });
      b.choices?.forEach((c, k) => { c.selected = was.choices![k].selected; });
    });
    if (!this.controls_?.isConnected) this.turn_(this.show_());
    this.fail_();
    this.changed_();
  }

  protected abstract send_(form: Form): Promise<unknown>;
  /** Says what became of the answers. */
  protected abstract receipt_(changes: Answer[], form: Form): Child[];
  protected extra_(): HTMLElement | null { return null; }
  protected abstract submitWord_: string;
  protected stopper_(): HTMLElement | null { return null; }
  /** Whether an objection can be recorded of whom it is. */
  protected objects_(): boolean { return true; }
  /** Gives what stands against sending, having said so at its place. */
  protected fault_(): HTMLElement | null {
    for (const place of this.body_.querySelectorAll<HTMLElement>("[data-ask]")) {
      const wrong = !!place.querySelector("input:invalid");
      place.querySelector(".error")!.textContent = wrong ? this.say_(place.dataset.ask!) : "";
      for (const input of place.querySelectorAll("input")) input.setAttribute("aria-invalid", String(wrong));
    }
    return this.body_.querySelector<HTMLElement>("input:invalid");
  }

  protected override show_(fresh?: boolean): State {
    const form = this.held_!;
    if (fresh) this.was_ = copy(form);
    this.bound_ = [];
    const asks = form.blocks.some((b) => b.options?.length || b.choices?.length);
    if (!asks) {
      this.controls_ = undefined;
      this.body_.replaceChildren(h("p", { class: "quiet" }, this.say_("empty")));
      return "empty";
    }
    const policy = form.privacyPolicy;
    this.controls_ = h("form", { part: "form", novalidate: true, onsubmit: (e: Event) => { e.preventDefault(); this.press_(); } },
      ...form.blocks.map((b) => this.block_(b)),
      this.extra_(),
      policy && h("p", { class: "quiet" }, ...rich([{ type: "link", href: policy.url, text: this.say_("policy", { Name: policy.name, Version: policy.version }) }])),
      this.buttons_());
    this.body_.replaceChildren(this.controls_);
    this.sync_();
    return "ready";
  }

  private buttons_(): HTMLElement | null {
    if (this.getAttribute("buttons") === "none") return null;
    return h("div", { class: "buttons" },
      !this.hasAttribute("autosave") && !this.hasAttribute("for") && this.button_(this.submitWord_, "submit", () => undefined, "submit"),
      this.stopper_(),
      this.hasAttribute("none") && this.button_("none", "none", () => this.none_()),
      this.hasAttribute("cancel") && this.button_("cancel", "cancel", () => this.reset()));
  }

  private block_(b: Block): HTMLElement {
    const id = `b${++next}`;
    const title = b.heading || b.label;
    if (b.choices) return this.question_(b, title ?? "", id);
    const said = b.options ? b.statement : b;
    return h("div", { part: "section", class: b.options && "section", role: title && "group", "aria-labelledby": title && id },
      title && h("div", { part: "heading", class: "heading", id }, title),
      said && h("div", { part: "statement", class: "statement" }, ...this.prose_(said)),
      ...this.topics_(b.options ?? []));
  }

  private prose_(b: { text?: string; content?: RichText[] }): Node[] {
    return b.content?.length ? rich(b.content) : rich([{ type: "paragraph", text: b.text ?? "" }]);
  }

  /** Options of one purpose that differ by their channel stand under its name. */
  private topics_(options: Option[]): HTMLElement[] {
    const topics = new Map<string, Option[]>();
    for (const o of options) {
      const key = open(o) && o.justification === "consent" && o.purpose && o.channel ? `${o.purpose.id} ${o.label} ${o.description ?? ""}` : `${++next}`;
      topics.set(key, [...topics.get(key) ?? [], o]);
    }
    const byChannel = [...topics.values()].some((t) => t.length > 1);
    return [...topics.values()].map((topic) => {
      const [first] = topic;
      if (!open(first) || first.justification !== "consent") return this.sentence_(first);
      if (!byChannel || !first.channel) return this.toggle_(first, first.label, first.description);
      const id = `t${++next}`;
      return h("div", { class: "topic", role: "group", "aria-labelledby": id },
        h("div", { class: "name", id }, first.label),
        first.description && h("div", { class: "quiet" }, first.description),
        ...topic.map((o) => this.toggle_(o, o.channel!.name, "", id)));
    });
  }

  /** A consent: off unless it was given. */
  private toggle_(o: Option, label: string, description?: string, topic = ""): HTMLElement {
    const id = `o${++next}`;
    return this.switch_(id, label, topic ? "" : "name", description, topic, o.card, () => !!o.selected, (on) => {
      const before = this.twin_(o)?.selected ?? null;
      this.each_(o, (twin) => { twin.selected = on || before !== null ? on : null; });
    }, o.state === "PENDING" ? this.say_("pending") : "");
  }

  private switch_(id: string, label: string, kind: string, description: string | undefined, topic: string, card: Option["card"], get: () => boolean, set: (on: boolean) => void, note = ""): HTMLElement {
    const input = h("input", {
      type: "checkbox", id, part: "switch", class: "switch", role: this.hasAttribute("autosave") ? "switch" : null,
      "aria-labelledby": `${topic} ${id}l`.trim(), "aria-describedby": `${id}d`,
      onchange: () => { set(input.checked); said = true; this.changed_(); },
    });
    const state = h("span", { part: "state", class: "word", "aria-hidden": true });
    const described = h("span", { id: `${id}d`, class: "quiet" });
    let said = false;
    this.bound_.push(() => {
      const on = get();
      input.checked = on;
      state.textContent = this.say_(on ? "on" : "off");
      state.classList.toggle("yes", on);
      described.textContent = [description, note, said && card ? (on ? card.on : card.off) : ""].filter(Boolean).join(" · ");
    });
    return h("label", { part: "option", class: "option", for: id },
      h("span", { class: "text" }, h("span", { part: "label", id: `${id}l`, class: kind }, label), described),
      state, input);
  }

  /** What does not rest on consent: a sentence, with a button where one may object. */
  private sentence_(o: Option): HTMLElement {
    const text = h("span", { class: "quiet" });
    const name = h("span", { part: "label", class: "name" }, o.label);
    const description = o.description && h("span", { class: "quiet" }, o.description);
    const said = h("span", { class: "text" }, name, description, text);
    if (!open(o) || !this.objects_()) {
      text.textContent = this.say_(o.suppressed ? "suppressed" : o.justification);
      return h("div", { part: "option", class: "option" }, said);
    }
    const button = h("button", { type: "button", part: "button", onclick: () => {
      const on = o.selected === false;
      const before = this.twin_(o)?.selected ?? null;
      this.each_(o, (twin) => { twin.selected = on ? before === false ? true : before : false; });
      this.changed_();
    } });
    this.bound_.push(() => {
      const off = o.selected === false;
      text.textContent = this.say_(off ? "objected" : o.justification);
      button.textContent = this.say_(off ? "allow" : "object");
      button.setAttribute("aria-label", this.say_(off ? "allowOf" : "objectTo", { Name: o.label }));
    });
    return h("div", { part: "option", class: "option sentence" }, said, button);
  }

  private question_(b: Block, title: string, id: string): HTMLElement {
    const one = b.type === single;
    const must = !!b.mandatory;
    const group = h("fieldset", { part: "section", class: "section", "aria-describedby": `${id}e`, "data-ask": must && "chooseOne" },
      h("legend", { part: "heading", class: "heading" }, title),
      ...b.choices!.map((c) => {
        const key = `c${++next}`;
        if (!one) return this.switch_(key, c.label, "", "", "", null, () => !!c.selected, (on) => this.same_(b, (twin) => { for (const v of twin.choices!) if (v.reference === c.reference) v.selected = on; }));
        const input = h("input", { type: "radio", name: id, id: key, class: "radio", required: must, onchange: () => { this.same_(b, (twin) => { twin.selectedChoice = c.reference; }); this.changed_(); } });
        this.bound_.push(() => { input.checked = b.selectedChoice === c.reference; });
        return h("label", { part: "option", class: "option", for: key }, h("span", { part: "label", class: "text" }, c.label), input);
      }),
      h("div", { part: "error", class: "error", id: `${id}e` }));
    if (must && !one) {
      const [first] = group.querySelectorAll("input");
      this.bound_.push(() => first.setCustomValidity(b.choices!.some((c) => c.selected) ? "" : this.say_("chooseOne")));
    }
    return group;
  }

  /** Does something to every place of the form that asks for the same option. */
  private each_(o: Option, act: (twin: Option) => void): void {
    for (const twin of optionsOf(this.held_!)) if (keyOf(twin) === keyOf(o)) act(twin);
  }

  /** Gives the option as it was loaded or saved last. */
  private twin_(o: Option): Option | undefined {
    return optionsOf(this.was_!).find((v) => keyOf(v) === keyOf(o));
  }

  private same_(b: Block, act: (twin: Block) => void): void {
    for (const twin of this.held_!.blocks) if (twin.reference === b.reference && twin.choices) act(twin);
  }

  protected sync_(): void { for (const show of this.bound_) show(); }

  /** An answer was given: everything that shows it follows. */
  protected changed_(): void {
    this.sync_();
    if (this.state === "saved" || this.state === "error") this.turn_("ready");
    this.emit_("update", this.value);
    this.answered_();
  }

  /** What else follows from an answer. */
  protected abstract answered_(): void;

  protected press_(): void {
    if (!this.saving_) this.submit().catch(() => undefined); // it was told already
  }

  /** Turns off what of the options can be: what was never answered stays so. */
  private none_(): void {
    for (const o of this.options_()) if (o.selected !== null) this.each_(o, (twin) => { twin.selected = this.twin_(o)?.selected === null ? null : false; });
    this.changed_();
  }

  /** Gives the options that can be answered. */
  protected options_(): Option[] { return optionsOf(this.held_!).filter(open); }

  private async save_(): Promise<unknown> {
    await this.settled_();
    const form = this.held_;
    const was = this.was_!;
    if (!form) throw new Error("There is nothing to send.");
    this.fail_();
    const fault = this.fault_();
    if (fault) {
      fault.focus();
      throw new Error(this.say_("chooseOne"));
    }
    const shown = copy(form);
    const sent = copy(form); // which the page may change
    if (!this.emit_("submit", sent, true)) return undefined;
    this.turn_("saving");
    this.busy_(true);
    const late = setTimeout(() => this.tell_(this.say_("slow")), 10_000);
    try {
      const response = await this.send_(sent);
      if (this.held_ === form) {
        this.was_ = shown;
        this.turn_("saved");
        this.tell_(...this.receipt_(this.changes_(was, sent), sent));
        if (!this.controls_?.isConnected) this.status_.focus();
      } else if (this.isConnected) void this.reload(); // asked for anew meanwhile, perhaps before it was saved
      this.emit_("success", { response, submission: sent });
      return response;
    } catch (cause) {
      const error = cause as Failure;
      this.turn_(error.status === 401 ? "expired" : "error");
      this.tell_();
      if (error.problem?.errors?.some((e) => e.location.includes("snapshot"))) {
        await this.reload();
        this.fail_(this.say_("changed"));
      } else this.fail_(this.say_(error.status === 401 ? "expired" : "saveFailed"), error.status !== 401 && !this.hasAttribute("autosave") && this.button_("retry", "", () => this.press_()));
      this.emit_("failure", { error, submission: sent });
      if (error.status === 401) this.emit_("expired", error);
      throw error;
    } finally {
      clearTimeout(late);
      this.busy_(false);
    }
  }

  private busy_(busy: boolean): void {
    this.body_.toggleAttribute("data-busy", busy);
    for (const b of this.body_.querySelectorAll("button")) {
      if (busy) b.setAttribute("aria-disabled", "true");
      else b.removeAttribute("aria-disabled");
    }
  }

  /** Gives what differs between two answers to the same form. */
  protected changes_(was: Form, now: Form): Answer[] {
    const read = (f: Form): Map<string, Answer> => {
      const found = new Map<string, Answer>();
      for (const b of f.blocks) {
        for (const o of b.options ?? []) {
          const name = o.channel && !o.label.includes(o.channel.name) ? `${o.label}, ${o.channel.name}` : o.label;
          found.set(keyOf(o), { name, now: this.say_(o.justification === "consent" ? o.selected ? "on" : "off" : o.selected === false ? "objected" : "on") });
        }
        if (b.choices) {
          const chosen = b.choices.filter((c) => b.type === single ? c.reference === b.selectedChoice : c.selected).map((c) => c.label);
          found.set(`p ${b.reference}`, { name: b.heading || b.label || "", now: new Intl.ListFormat(this.locale_).format(chosen) || this.say_("noChoice") });
        }
      }
      return found;
    };
    const before = read(was);
    return [...read(now)].filter(([key, a]) => a.now !== before.get(key)?.now).map(([, a]) => a);
  }
}
