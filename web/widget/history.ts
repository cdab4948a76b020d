// <opencpm-history>: a citizen reads what was recorded of them, newest first.
import css from "./history.css";
import { type State, Widget, dated, define, h, mirror, rich, style } from "./widget";

interface Named { name: string; label?: Record<string, string> | null }

interface Entry {
  seq: number;
  kind: "transaction" | "submission" | "suppression";
  transaction: { reverts: string | null; obtainedAt: string; changes: { state: string; purpose?: Named | null; channel?: Named | null; name?: string }[] } | null;
  submission: { label: string | null; obtainedAt: string; choices: { label: string }[] } | null;
  suppression?: { recordedAt: string; channel: Named; lifted: boolean } | null;
  shown?: {
    privacyPolicy?: { version: string; url: string; name: string } | null;
    permissionStatement?: { text: Record<string, string> } | null;
  };
}

interface Page { history: Entry[]; nextCursor: string | null }

export class History extends Widget {
  protected static override asks = ["token"];
  private more_ = 0;

  protected ask_(signal: AbortSignal): Promise<Entry[]> | undefined {
    if (!this.token) return undefined;
    this.more_ = 0;
    return this.all_(signal);
  }

  /** The API tells it from the beginning: the newest is at the end of the last page. */
  private async all_(signal: AbortSignal): Promise<Entry[]> {
    const all: Entry[] = [];
    let cursor = "";
    do {
      const page: Page = await this.call_<Page>("/v1/citizens/me/history", { limit: "100", cursor, locale: this.locale }, signal);
      all.push(...page.history);
      cursor = page.nextCursor ?? "";
    } while (cursor);
    return all.reverse();
  }

  protected declare held_: Entry[];

  protected show_(): State {
    const entries = this.held_.filter((e) => !this.filter || e.kind === this.filter);
    if (!entries.length) {
      this.body_.replaceChildren(h("p", { class: "quiet" }, this.say_("historyEmpty")));
      return "empty";
    }
    const step = Math.max(1, Number(this.limit) || 10);
    const shown = entries.slice(0, step + this.more_);
    this.body_.replaceChildren(
      h("ol", { part: "section", class: "section rows", role: "list" }, ...shown.map((e) => this.row_(e))),
      shown.length < entries.length ? h("div", { class: "buttons" }, this.button_("more", "more", () => {
        this.more_ += step;
        this.show_();
        // The first of those that came is where a reader goes on.
        this.body_.querySelectorAll("li")[shown.length].focus();
      })) : "");
    return "ready";
  }

  private row_(e: Entry): HTMLElement {
    const listed = e.suppression;
    const at = listed?.recordedAt ?? (e.transaction ?? e.submission)!.obtainedAt;
    const when = new Intl.DateTimeFormat(dated(this.locale_), { dateStyle: "medium", timeStyle: "short" }).format(new Date(at));
    const policy = e.shown?.privacyPolicy;
    const texts = e.shown?.permissionStatement?.text;
    const text = this.local_(texts);
    return h("li", { part: "row", class: "option row", tabindex: -1 },
      h("div", { class: "text" },
        h("time", { datetime: at, class: "quiet" }, when),
        ...(e.transaction ? e.transaction.changes.map((c) => this.line_([c.purpose, c.channel].map((n) => this.local_(n?.label) || n?.name).filter(Boolean).join(", ") || c.name || "", this.say_(c.state), c.state === "GRANTED")) : []),
        e.submission && this.line_(e.submission.label ?? "", new Intl.ListFormat(this.locale_).format(e.submission.choices.map((c) => c.label)) || this.say_("noChoice"), false),
        listed && this.line_(this.local_(listed.channel.label) ?? listed.channel.name, this.say_(listed.lifted ? "unlisted" : "listed"), false),
        e.transaction?.reverts && h("span", { part: "state", class: "word" }, this.say_("undone")),
        text && h("details", {}, h("summary", {}, this.say_("shown")), h("p", { part: "statement" }, text)),
        policy && h("p", { class: "quiet" }, ...rich([{ type: "link", href: policy.url, text: this.say_("policy", { Name: policy.name, Version: policy.version }) }]))));
  }

  /** Gives a text in the language that is shown, or else in the one there is. */
  private local_(texts: Record<string, string> | null | undefined): string | undefined {
    return texts ? texts[this.locale_] ?? texts[this.locale_.split("-")[0]] ?? texts[""] ?? Object.values(texts)[0] : undefined;
  }

  private line_(name: string, state: string, yes: boolean): HTMLElement {
    return h("div", { class: "line" }, h("span", { part: "label", class: "name" }, name), h("span", { part: "state", class: yes ? "word yes" : "word" }, state));
  }
}

export interface History {
  token: string;
  limit: string;
  filter: string;
}

style(css);
mirror(History, ["token", "limit", "filter"], []);
define("opencpm-history", History);
