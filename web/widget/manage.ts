// <opencpm-manage>: a citizen sees and changes what applies, by a token.
import { type Answer, type Form, FormWidget } from "./form";
import { type Child, dated, define, h, mirror } from "./widget";

export class Manage extends FormWidget {
  protected static override asks = ["template", "token", "rule"];
  protected submitWord_ = "save";
  private autosaving_ = false;

  protected ask_(signal: AbortSignal): Promise<Form> | undefined {
    if (!this.template || !this.token) return undefined;
    return this.call_<Form>("/v1/consent-state", { templateId: this.template, ruleId: this.rule, locale: this.locale }, signal);
  }

  protected send_(form: Form): Promise<unknown> {
    return this.call_("/v1/consent-state", {}, undefined, {
      ...form, ruleId: this.rule || undefined, channel: this.channel || undefined, campaign: this.campaign || undefined, submitAsPending: this.pending || undefined,
    });
  }

  protected receipt_(changes: Answer[], form: Form): Child[] {
    const time = new Intl.DateTimeFormat(dated(this.locale_), { timeStyle: "short" }).format(new Date());
    const policy = form.privacyPolicy;
    return [h("p", {}, h("strong", {}, this.say_("saved", { Time: time })), policy && ` ${this.say_("policy", { Name: policy.name, Version: policy.version })}.`), changes.length > 0 && h("ul", {}, ...changes.map((c) => h("li", {}, `${c.name}: ${c.now}`)))];
  }

  protected override stopper_(): HTMLElement | null {
    const all = this.options_();
    const word = all.some((o) => o.selected && !o.directMarketing) ? "stopMarketing" : "stop"; // what goes on is not unsubscribed from
    return all.some((o) => o.directMarketing) ? this.button_(word, "stop", () => this.stop_()) : null;
  }

  /** Stops all marketing at once: one step, nothing asked, and said of what was never answered too. */
  private stop_(): void {
    for (const o of this.options_()) if (o.directMarketing) o.selected = false;
    this.sync_();
    this.emit_("update", this.value);
    const go = () => this.press_();
    if (this.saving_) this.saving_.then(go, go);
    else go();
  }

  protected answered_(): void {
    if (this.autosave) return void this.autosave_();
    const n = this.changes_(this.was_!, this.held_!).length;
    this.tell_(n > 0 && this.say_("unsaved", { PluralCount: n }));
  }

  /** Saves until what is shown is what was saved. A switch that was not saved goes back. */
  private async autosave_(): Promise<void> {
    if (this.autosaving_) return;
    this.autosaving_ = true;
    try {
      while (this.held_ && JSON.stringify(this.held_) !== JSON.stringify(this.was_)) {
        if (await this.submit() === undefined) this.reset(); // the page did not want it
      }
    } catch {
      const why = this.alert_.textContent;
      this.reset();
      this.fail_(why || this.say_("saveFailed"));
    }
    this.autosaving_ = false;
  }
}

export interface Manage {
  template: string;
  token: string;
  rule: string;
  channel: string;
  campaign: string;
  buttons: string;
  pending: boolean;
  autosave: boolean;
  none: boolean;
  cancel: boolean;
}

mirror(Manage, ["template", "token", "rule", "channel", "campaign", "buttons"], ["pending", "autosave", "none", "cancel"]);
define("opencpm-manage", Manage);
