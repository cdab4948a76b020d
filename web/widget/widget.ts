// What all widgets share: an element with a shadow root that asks the API for
// something and shows it, in the language of the answer, without ever writing HTML.
import css from "./widget.css";

/** The digest of the sources, set by the bundler. */
declare const BUILD: string;

export type State = "loading" | "ready" | "saving" | "saved" | "empty" | "expired" | "error";

/** RichText is one node of a text, as the API gives it. */
export interface RichText {
  type: string;
  text?: string;
  href?: string;
  start?: number; // of a list that is numbered
  children?: RichText[];
}

/** Failure is an answer that is no success, or none at all: then its status is 0. */
export class Failure extends Error {
  constructor(readonly status: number, readonly problem: { title?: string; detail?: string; errors?: { location: string; message: string }[] } = {}) {
    super(problem.detail ?? problem.title ?? `The answer was ${status || "none"}.`);
  }
}

type Words = Record<string, string | Record<string, string>>;
export type Child = Node | string | null | undefined | false;

/** Makes an element. What is named on… listens; what is false or null is left out. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Record<string, unknown> = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") e.addEventListener(name.slice(2), value as EventListener);
    else if (value != null && value !== false) e.setAttribute(name, String(value));
  }
  e.append(...present(children));
  return e;
}

const present = (children: Child[]): (Node | string)[] => children.filter((c): c is Node | string => !!c);

/** Shows a text tree: what is not known in it is shown as the text that it holds. */
export function rich(nodes: RichText[] | null | undefined): Node[] {
  return (nodes ?? []).map((n) => {
    const inner = n.text === undefined ? rich(n.children) : [document.createTextNode(n.text), ...rich(n.children)];
    switch (n.type) {
      case "paragraph": return h("p", {}, ...inner);
      case "list": return n.start === undefined ? h("ul", {}, ...inner) : h("ol", { start: n.start }, ...inner);
      case "item": return h("li", {}, ...inner);
      case "strong": return h("strong", {}, ...inner);
      case "link":
        if (/^(https?|mailto):/i.test(n.href ?? "")) return h("a", { href: n.href, target: "_blank", rel: "noopener noreferrer" }, ...inner);
    }
    const all = document.createDocumentFragment();
    all.append(...inner);
    return all;
  });
}

// A script that belongs to no page of its own server still knows where it came from.
const script = (document.currentScript as HTMLScriptElement | null)?.src || (import.meta.url as string | undefined) || location.href;
const origin = new URL(script).origin;

// How long an answer is waited for, and after how long the reader is told that it takes long.
const patience = 30_000;
const slow = 10_000;

// What is said where the server does not even give its words.
const english: Words = { "widget.loadFailed": "This could not be loaded.", "widget.retry": "Try again", "widget.slow": "Still working. Please wait a moment." };

let sheet: CSSStyleSheet | undefined;
let rules = css;

/** Adds what a kind of widget needs to the style sheet. */
export function style(more: string): void {
  rules += more;
  sheet?.replaceSync(rules);
}

const texts = new Map<string, Promise<Words>>();

/** Fetches our own words in a language, once a page. */
function words(api: string, locale: string): Promise<Words> {
  const url = `${api}/w/1/words/${encodeURIComponent(locale)}.json`;
  let found = texts.get(url);
  if (!found) {
    found = fetch(url, { credentials: "omit" }).then((r) => {
      if (!r.ok) throw new Failure(r.status);
      return r.json() as Promise<Words>;
    });
    found.catch(() => texts.delete(url));
    texts.set(url, found);
  }
  return found;
}

/** The locale of dates: in plain English the day comes before the month, as on our pages. */
export const dated = (locale: string): string => (locale === "en" ? "en-GB" : locale);

export abstract class Widget extends HTMLElement {
  static build = BUILD;

  static observedAttributes: string[] = [];

  /** The attributes after which what is shown must be asked for anew. */
  protected static asks: string[] = [];

  protected root_: ShadowRoot;
  protected body_ = h("div", { class: "body" });
  protected status_ = h("div", { part: "status", class: "status", role: "status", tabindex: -1 });
  protected alert_ = h("div", { part: "error", class: "error", role: "alert" });
  protected words_: Words = english;
  protected locale_ = "en";
  given_: Record<string, unknown> = {}; // the functions that stand for attributes
  private frame_ = h("div", { class: "frame" });
  private phase_: State = "loading";
  protected held_: unknown = null; // what was answered, with what was chosen since
  private abort_?: AbortController;
  private due_?: number;
  private anew_ = false;
  private loaded_: Promise<void> = Promise.resolve();

  constructor() {
    super();
    this.root_ = this.attachShadow({ mode: "open", delegatesFocus: true });
    this.frame_.append(this.body_, this.status_, this.alert_);
  }

  get state(): State { return this.phase_; }
  get value(): unknown { return this.held_; }

  /** Asks for what is needed anew and shows it. */
  reload(): Promise<void> {
    clearTimeout(this.due_);
    this.anew_ = false;
    return (this.loaded_ = this.load_());
  }

  connectedCallback(): void {
    // Properties that were set before the element was defined.
    const own = this as Record<string, unknown>;
    for (const name of (this.constructor as typeof Widget).observedAttributes) {
      if (Object.hasOwnProperty.call(this, name)) {
        const value = own[name];
        delete own[name];
        own[name] = value;
      }
    }
    this.schedule_(true);
  }

  disconnectedCallback(): void {
    clearTimeout(this.due_);
    this.abort_?.abort();
    this.turn_("loading");
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before !== after) this.schedule_((this.constructor as typeof Widget).asks.includes(name) || name === "api" || name === "locale");
  }

  /** What is asked of the API: nothing as long as an attribute for it is missing. */
  protected abstract ask_(signal: AbortSignal): Promise<unknown> | undefined;
  /** Shows what is held, which may have come just now, and gives the state that it is in. */
  protected abstract show_(fresh?: boolean): State;

  /** Changes of one task are answered by one request. */
  schedule_(anew = false): void {
    if (!this.isConnected) return;
    this.anew_ ||= anew;
    clearTimeout(this.due_);
    this.due_ = window.setTimeout(() => {
      if (this.anew_) void this.reload();
      else this.again_();
    });
  }

  /** Waits until what was asked for is here, or has failed. */
  protected settled_(): Promise<void> { return this.anew_ ? this.reload() : this.loaded_; }

  /** Shows the same answer anew, with what was chosen meanwhile. */
  private again_(): void {
    this.dress_();
    if (this.held_) this.show_();
  }

  /** The language before the answer tells its own. */
  private guess_(): string { return this.locale || navigator.language; }

  private async load_(): Promise<void> {
    this.abort_?.abort();
    const mine = (this.abort_ = new AbortController());
    const focused = !!this.root_.activeElement;
    this.held_ = null; // nothing of it can be sent for whom or what is asked for now
    this.turn_("loading");
    this.dress_();
    const asked = this.ask_(mine.signal);
    if (!asked) { // not yet told whom or what to ask for
      this.root_.replaceChildren(h("slot"));
      return;
    }
    this.tell_();
    this.fail_();
    this.body_.replaceChildren(h("div", { class: "skeleton", "aria-hidden": true }, h("i"), h("i"), h("i")));
    this.body_.setAttribute("aria-busy", "true");
    this.root_.replaceChildren(this.frame_);
    this.speak_(this.guess_());
    const late = setTimeout(() => this.tell_(this.say_("slow")), slow);
    const spoken = words(this.api, this.guess_());
    spoken.catch(() => undefined); // it is awaited below, if at all
    try {
      const value = await asked;
      const { locale = this.guess_(), direction } = value as { locale?: string; direction?: string };
      const said = locale === this.guess_() ? await spoken : await words(this.api, locale);
      if (mine.signal.aborted) return;
      this.words_ = said;
      this.speak_(locale, direction);
      this.tell_();
      this.held_ = value;
      this.turn_(this.show_(true));
      if (focused) this.focus();
      this.emit_(this.phase_ === "empty" ? "empty" : "load", this.value);
    } catch (cause) {
      const error = cause instanceof Failure ? cause : new Failure(0);
      if (mine.signal.aborted) return;
      const said = await spoken.catch(() => english);
      if (mine.signal.aborted) return;
      this.words_ = said;
      this.tell_();
      this.turn_(error.status === 401 ? "expired" : "error");
      if (error.status === 401) this.root_.replaceChildren();
      else {
        this.body_.replaceChildren();
        this.fail_(this.say_("loadFailed"), this.button_("retry", "", () => void this.reload()));
        if (focused) this.focus();
      }
      this.emit_("loaderror", error);
      if (error.status === 401) this.emit_("expired", error);
    } finally {
      clearTimeout(late);
      if (!mine.signal.aborted) this.body_.removeAttribute("aria-busy");
    }
  }

  /** Calls the API; the token, if there is one, is all that says who asks. */
  protected async call_<T>(path: string, query: Record<string, string>, signal?: AbortSignal, body?: unknown): Promise<T> {
    const url = new URL(this.api + path);
    for (const [name, value] of Object.entries(query)) if (value) url.searchParams.set(name, value);
    const headers: Record<string, string> = { Accept: "application/json" };
    const token = this.getAttribute("token");
    if (token) headers.Authorization = `Bearer ${token}`;
    const text = body === undefined ? undefined : JSON.stringify(body);
    if (text) headers["Content-Type"] = "application/json";
    const abort = new AbortController();
    const stop = () => abort.abort();
    signal?.addEventListener("abort", stop);
    const timer = setTimeout(stop, patience);
    try {
      const answer = await fetch(url.href, {
        method: text ? "POST" : "GET", headers, body: text, credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer",
        signal: abort.signal,
        keepalive: !!text && text.length < 30_000, // it arrives although the page goes away
      });
      const read = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Failure(answer.status, read);
      return read as T;
    } catch (cause) {
      throw cause instanceof Failure ? cause : new Failure(0);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  }

  protected turn_(state: State): void { this.phase_ = state; }

  protected emit_(name: string, detail: unknown, cancelable = false): boolean {
    return this.dispatchEvent(new CustomEvent(`consent:${name}`, { bubbles: true, composed: true, cancelable, detail }));
  }

  /** Gives one of our own messages in the language of what is shown. */
  protected say_(name: string, data: Record<string, string | number> = {}): string {
    let text = this.words_[`widget.${name}`] ?? "";
    if (typeof text === "object") text = text[new Intl.PluralRules(this.locale_).select(data.PluralCount as number)] ?? text.other;
    return text.replace(/{{\.(\w+)}}/g, (_, key: string) => String(data[key]));
  }

  /** Says something in the status line, politely. */
  protected tell_(...what: Child[]): void { this.status_.replaceChildren(...present(what)); }

  /** Says at once that something went wrong. */
  protected fail_(...what: Child[]): void { this.alert_.replaceChildren(...present(what)); }

  protected button_(word: string, part: string, act: () => void, type = "button"): HTMLButtonElement {
    return h("button", { type, part: `button ${part}`.trim(), class: part, onclick: act }, this.say_(word));
  }

  private speak_(locale: string, direction = this.say_("direction")): void {
    this.frame_.lang = this.locale_ = locale || "en";
    this.frame_.dir = direction;
  }

  /** Puts on the one style sheet of all widgets, which a policy for styles does not forbid. */
  private dress_(): void {
    const bare = this.hasAttribute("unstyled");
    if ("adoptedStyleSheets" in Document.prototype && "replaceSync" in CSSStyleSheet.prototype) {
      if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(rules);
      this.root_.adoptedStyleSheets = bare ? [] : [sheet];
    } else if (!bare && !this.frame_.querySelector("style")) this.frame_.prepend(h("style", {}, rules)); // browsers before 2023
  }
}

export interface Widget {
  api: string;
  locale: string;
  theme: string;
  unstyled: boolean;
}

/** Gives the class a property for each attribute; flags are true or false, and what is a function stays one. */
export function mirror(of: typeof Widget, names: string[], flags: string[]): void {
  names.push("api", "locale", "theme");
  flags.push("unstyled");
  of.observedAttributes = [...names, ...flags];
  for (const name of of.observedAttributes) {
    const flag = flags.includes(name);
    Object.defineProperty(of.prototype, name, {
      configurable: true, enumerable: true,
      get(this: Widget) {
        const value = this.getAttribute(name);
        return this.given_[name] ?? (flag ? value !== null : name === "api" ? (value || origin).replace(/\/+$/, "") : value ?? "");
      },
      set(this: Widget & Record<string, unknown>, value: unknown) {
        const bare = !this[name];
        delete this.given_[name];
        if (typeof value === "function") this.given_[name] = value;
        else if (value == null || value === false) this.removeAttribute(name);
        else this.setAttribute(name, flag ? "" : String(value));
        if (bare !== !this[name]) this.schedule_();
      },
    });
  }
}

/** Defines an element, unless another version on the page was faster: the first wins. */
export function define(name: string, element: typeof Widget): void {
  const first = customElements.get(name) as typeof Widget | undefined;
  if (!first) customElements.define(name, element as unknown as CustomElementConstructor);
  else if (first.build !== element.build) console.warn(`OpenCPM: <${name}> is on this page in two versions; ${first.build} came first and is used, ${element.build} is not.`);
}
