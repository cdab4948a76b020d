// <opencpm-capture>: takes the choices of somebody who is not known yet.
import css from "./capture.css";
import { type Form, FormWidget } from "./form";
import { type State, define, h, mirror, style } from "./widget";

type Given = string | (() => string);

// How long the form of the page waits for the answer: a purchase must not fail with us.
const patience = 5000;

// The forms of the page whose submission goes on now, and for how many widgets others wait.
const passing = new WeakSet<HTMLFormElement>();
const waiting = new WeakMap<HTMLFormElement, number>();

export class Capture extends FormWidget {
  static formAssociated = true;
  protected static override asks = ["template", "rule"];
  protected submitWord_ = "send";
  // Browsers before 2023 know elements of forms only as their own.
  private internals_ = "setFormValue" in (globalThis.ElementInternals?.prototype ?? {}) ? this.attachInternals() : undefined;
  private given_: Record<string, Given> = {};
  private field_?: HTMLInputElement;
  private place_?: Node;

  get form(): HTMLFormElement | null { return this.internals_?.form ?? null; }
  get validity(): ValidityState | undefined { return this.internals_?.validity; }
  get validationMessage(): string { return this.internals_?.validationMessage ?? ""; }
  checkValidity(): boolean { return this.internals_?.checkValidity() ?? true; }
  reportValidity(): boolean { return this.internals_?.reportValidity() ?? true; }
  formResetCallback(): void { this.reset(); }
  formDisabledCallback(disabled: boolean): void { this.body_.toggleAttribute("inert", disabled); }

  override connectedCallback(): void {
    super.connectedCallback();
    this.place_ = this.getRootNode();
    this.place_.addEventListener("submit", this.host_, true);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.place_?.removeEventListener("submit", this.host_, true);
  }

  /** Gives what says who it is: an attribute, or what the page knows by a function. */
  readGiven_(name: string): Given { return this.given_[name] ?? this.getAttribute(name) ?? ""; }

  setGiven_(name: string, value: Given | null | undefined): void {
    delete this.given_[name];
    if (typeof value === "function") this.given_[name] = value;
    else if (value == null) this.removeAttribute(name);
    else this.setAttribute(name, value);
  }

  private who_(): { uniqueReference?: string; emailAddress?: string } {
    const read = (v: Given) => (typeof v === "function" ? v() : v) || undefined;
    const named = read(this.email);
    const uniqueReference = named ? undefined : read(this.reference); // the API takes one of both
    return { uniqueReference, emailAddress: named ?? (uniqueReference ? undefined : (this.field_ ?? this.theirs_())?.value.trim() || undefined) };
  }

  /** Gives the field for the address that the form of the page has. */
  private theirs_(): HTMLInputElement | null | undefined {
    return (this.for ? document.getElementById(this.for) : this.closest("form"))?.querySelector<HTMLInputElement>("input[type=email]");
  }

  protected ask_(signal: AbortSignal): Promise<Form> | undefined {
    if (!this.template) return undefined;
    return this.call_<Form>("/v1/unauthenticated/consent-state", { templateId: this.template, ruleId: this.rule, locale: this.locale }, signal);
  }

  protected override show_(fresh?: boolean): State {
    const state = super.show_(fresh);
    this.tellForm_();
    return state;
  }

  /** A sign-up that nobody else says the address of asks for it. */
  protected override extra_(): HTMLElement | null {
    this.field_ = undefined;
    if (this.reference || this.email || this.for || this.theirs_() || this.buttons === "none") return null;
    this.field_ = h("input", { id: "email", type: "email", class: "field", autocomplete: "email", required: true, dir: "ltr", "aria-describedby": "email-error", oninput: () => this.tellForm_() });
    return h("div", { part: "section", class: "section" }, h("div", { class: "email", "data-ask": "emailInvalid" }, h("label", { part: "label", class: "name", for: "email" }, this.say_("email")), this.field_, h("div", { part: "error", class: "error", id: "email-error" })));
  }

  protected answered_(): void {
    this.tell_();
    this.tellForm_();
  }

  /** What the form of the page gets to know: the value, and what is missing in it. */
  private tellForm_(): void {
    if (!this.internals_) return;
    const wrong = this.body_.querySelector<HTMLInputElement>("input:invalid");
    this.internals_.setFormValue(JSON.stringify(this.value));
    if (wrong) this.internals_.setValidity({ valueMissing: true }, this.say_(wrong.closest<HTMLElement>("[data-ask]")!.dataset.ask!), wrong);
    else this.internals_.setValidity({});
  }

  protected async send_(form: Form): Promise<unknown> {
    const who = this.who_();
    if (!this.changes_(this.was_!, form).length) return null; // there is nothing to record of anybody
    return this.call_("/v1/unauthenticated/transactions", {}, undefined, {
      ...form, ...who, channel: this.channel || undefined, campaign: this.campaign || undefined, submitAsPending: this.pending || !!who.emailAddress || undefined,
    });
  }

  protected receipt_(changes: unknown[]): Node[] {
    if (changes.length === 0) return [h("p", {}, this.say_("nothingSent"))];
    const confirm = this.pending || this.who_().emailAddress;
    if (this.buttons !== "none" && !this.for) this.body_.replaceChildren(); // it is done with
    return [h("p", {}, h("strong", {}, this.say_("sent")), confirm ? ` ${this.say_("confirm")}` : "")];
  }

  /** Sends when the form of the page is submitted, which goes on when that is done. */
  private host_ = (e: Event): void => {
    const form = e.target as HTMLFormElement;
    if (!this.for || form.id !== this.for || passing.has(form) || !this.held_ || this.state === "empty") return;
    e.preventDefault();
    e.stopPropagation();
    const fault = this.fault_();
    if (fault) return fault.focus();
    const { submitter } = e as SubmitEvent;
    waiting.set(form, (waiting.get(form) ?? 0) + 1);
    const late = new Promise((done) => setTimeout(done, patience));
    void Promise.race([this.submit().catch(() => undefined), late]).then(() => {
      const left = waiting.get(form)! - 1;
      waiting.set(form, left);
      if (left > 0) return;
      passing.add(form);
      if (form.requestSubmit) form.requestSubmit(submitter);
      else form.submit();
      passing.delete(form);
    });
  };
}

export interface Capture {
  template: string;
  rule: string;
  channel: string;
  campaign: string;
  buttons: string;
  for: string;
  name: string;
  pending: boolean;
  cancel: boolean;
  none: boolean;
  reference: Given;
  email: Given;
}

style(css);
mirror(Capture, ["template", "rule", "channel", "campaign", "buttons", "for", "name", "reference", "email"], ["pending", "none", "cancel"]);
for (const name of ["reference", "email"]) {
  Object.defineProperty(Capture.prototype, name, {
    configurable: true, enumerable: true,
    get(this: Capture) { return this.readGiven_(name); },
    set(this: Capture, value: Given) { this.setGiven_(name, value); },
  });
}
define("opencpm-capture", Capture);
