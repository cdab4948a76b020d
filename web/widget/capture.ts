// <opencpm-capture>: takes the choices of somebody who is not known yet.
import css from "./capture.css";
import { type Form, FormWidget } from "./form";
import { Failure, type State, define, h, mirror, style } from "./widget";

type Given = string | (() => string | number | null | undefined);

// How long the form of the page waits for the answer: a purchase must not fail with us.
const patience = 5000;

// For how many widgets the forms of the page wait; less than none: one goes on now.
const waiting = new WeakMap<HTMLFormElement, number>();

const quiet = (e: Event): void => e.stopImmediatePropagation();

export class Capture extends FormWidget {
  static formAssociated = true;
  protected static override asks = ["template", "rule"];
  protected submitWord_ = "send";
  // Browsers before 2023 know elements of forms only as their own.
  private internals_ = "setFormValue" in (globalThis.ElementInternals?.prototype ?? {}) ? this.attachInternals() : undefined;
  private confirm_ = false; // what was sent waits for a confirmation
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

  /** Gives who it is: the API takes one of both, and nobody becomes another because what was given is empty. */
  private who_(): { uniqueReference?: string; emailAddress?: string } {
    const read = (given?: Given) => {
      const v = typeof given === "function" ? given() : given;
      return v == null || v === "" ? undefined : String(v);
    };
    const emailAddress = this.objects_() ? undefined : read(this.email || (this.field_ ?? this.theirs_())?.value.trim());
    const uniqueReference = emailAddress ? undefined : read(this.reference);
    if (!emailAddress && !uniqueReference) throw new Failure(422, { detail: "Neither an e-mail address nor a reference is given." });
    return { uniqueReference, emailAddress };
  }

  /** By an address nothing is recorded that its owner could not confirm. */
  protected override objects_(): boolean { return !!this.reference && !this.email; }

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
    if (!this.changes_(this.was_!, form).length) return null; // there is nothing to record of anybody
    const who = this.who_();
    this.confirm_ = this.pending || !!who.emailAddress;
    return this.call_("/v1/unauthenticated/transactions", {}, undefined, {
      ...form, ...who, channel: this.channel || undefined, campaign: this.campaign || undefined, submitAsPending: this.confirm_ || undefined,
    });
  }

  protected receipt_(changes: unknown[]): Node[] {
    if (changes.length === 0) return [h("p", {}, this.say_("nothingSent"))];
    if (this.buttons !== "none" && !this.for) this.body_.replaceChildren(); // it is done with
    return [h("p", {}, h("strong", {}, this.say_("sent")), this.confirm_ && ` ${this.say_("confirm")}`)];
  }

  /** Sends when the form of the page is submitted and the page has heard of it: what it sets then is known. */
  private host_ = (e: Event): void => {
    const form = e.target as HTMLFormElement;
    const others = waiting.get(form) ?? 0;
    if (!this.for || form.id !== this.for || others < 0 || !this.held_ || this.state === "empty") return;
    const fault = this.fault_();
    if (fault || others) {
      quiet(e);
      e.preventDefault();
      return fault?.focus();
    }
    const place = e.composedPath().pop()!;
    const send = () => {
      clearTimeout(due);
      place.removeEventListener("submit", send);
      const sent = this.submit().catch(() => undefined);
      const held = waiting.get(form) ?? 0;
      if (!e.eventPhase || e.defaultPrevented && !held) return; // it goes its own way
      e.preventDefault();
      waiting.set(form, held + 1);
      void Promise.race([sent, new Promise((done) => setTimeout(done, patience))]).then(() => {
        const left = waiting.get(form)! - 1;
        waiting.set(form, left || -1);
        if (left) return;
        const submitter = (e as SubmitEvent).submitter as HTMLButtonElement | null;
        place.addEventListener("submit", quiet, true);
        if (form.requestSubmit) form.requestSubmit(submitter?.form === form ? submitter : null);
        else form.submit();
        place.removeEventListener("submit", quiet, true);
        waiting.delete(form);
      });
    };
    place.addEventListener("submit", send);
    const due = setTimeout(send); // where the page lets nobody else hear of it
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
define("opencpm-capture", Capture);
