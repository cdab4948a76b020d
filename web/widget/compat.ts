// The calls that pages make already, on the elements: every option of theirs has its
// attribute, and what was never more than a picture is accepted and left out.
import "./consent";
import { Failure } from "./widget";

type Handler = (...args: unknown[]) => void;
type Text = string | number | (() => unknown) | null | undefined;

interface Options {
  id?: string | HTMLElement;
  templateId?: string;
  token?: string;
  ruleId?: string;
  locale?: string;
  channel?: string;
  campaign?: string;
  submitAsPending?: boolean;
  uniqueReference?: Text;
  contactDetails?: { emailAddress?: Text; verification?: { emailAddress?: Text; email?: Text } };
  dataSharing?: unknown;
  formSelector?: string;
  referenceSelector?: string;
  containerSelector?: string;
  limit?: number;
  filter?: string;
  display?: {
    location?: string;
    applyDefaultStyle?: boolean;
    displayButtons?: boolean;
    displayCancelButtons?: boolean;
    displayAllNoneOptions?: boolean;
    closeOnSubmit?: boolean;
    consentricLogo?: boolean;
  };
  events?: { onSuccess?: Handler; onFailure?: Handler; onUpdate?: Handler; onLoadError?: Handler };
}

type Element = HTMLElement & { submit?(): Promise<unknown>; reset?(): void; reload(): Promise<void> } & Record<string, unknown>;

interface Widget {
  element: HTMLElement;
  submit(): Promise<unknown>;
  reset(): void;
  reload(): Promise<void>;
  handleEvent(): void;
}

declare const widget_config: { templateId?: string; token?: string; widgetId?: string; hideButtons?: boolean } | undefined;

const container = "widget-container";

/** Runs at once, or when the page has been read. */
function ready(act: () => void): void {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", act, { once: true });
  else act();
}

/** What an element cannot do without. It waits for it in silence; who calls load is told. */
function lacks(e: Element): Error | null {
  if (e.localName !== "opencpm-capture" && !e.token) return new Failure(401, { detail: "There is no token." });
  return e.localName !== "opencpm-history" && !e.template ? new Failure(422, { detail: "There is no templateId." }) : null;
}

/** Shows an element, once there is a place for it and bind, if given, finds nothing against it. */
function load(tag: string, o: Options, more: Record<string, unknown> = {}, bind: (e: Element) => Error | null = () => null): Widget {
  const e = document.createElement(tag) as Element;
  const d = o.display ?? {};
  const on = o.events ?? {};
  Object.assign(e, {
    template: o.templateId, token: o.token, rule: o.ruleId, locale: o.locale, channel: o.channel, campaign: o.campaign, pending: o.submitAsPending,
    unstyled: d.applyDefaultStyle === false, buttons: d.displayButtons === false ? "none" : null, cancel: d.displayCancelButtons, none: d.displayAllNoneOptions,
    ...more,
  });
  const hear = (name: string, act: (detail: { response: unknown; error: unknown; submission: unknown }) => void) => e.addEventListener(`consent:${name}`, (event) => act((event as CustomEvent).detail));
  let told: unknown; // the failure that was told last
  const fail = (error: unknown, submission: unknown) => {
    told = error;
    on.onFailure?.(error, submission);
  };
  hear("success", (v) => on.onSuccess?.(v.response, v.submission));
  if (d.closeOnSubmit) hear("success", () => e.remove());
  hear("failure", (v) => fail(v.error, v.submission));
  hear("update", (v) => on.onUpdate?.(v));
  hear("loaderror", (v) => on.onLoadError?.(v));
  if (o.dataSharing) console.warn("OpenCPM: dataSharing is not supported; nothing of it is sent.");
  ready(() => {
    const place = o.containerSelector ? document.querySelector(o.containerSelector) : typeof o.id === "object" ? o.id : document.getElementById(o.id ?? container);
    const wrong = place ? bind(e) : new Error(`There is no element ${o.containerSelector ?? `with the id ${String(o.id ?? container)}`} to show the widget in.`);
    if (place && !wrong) place.replaceChildren(e);
    // The page has until then what load returns, and may have set what it lacks.
    setTimeout(() => {
      const error = wrong ?? (e.isConnected && lacks(e));
      if (error) on.onLoadError?.(error);
    });
  });
  return {
    element: e,
    submit: () => e.submit?.().catch((error) => { if (told !== error) fail(error, e.value); }) ?? Promise.resolve(),
    reset: () => e.reset?.(),
    reload: () => e.reload(),
    handleEvent: () => undefined, // some pages register what load returns as a listener
  };
}

/** Gives the address under any of its three names. */
function emailOf({ contactDetails: c }: Options): Text {
  return c?.verification?.emailAddress ?? c?.verification?.email ?? c?.emailAddress;
}

function capture(o: Options): Widget {
  return load("opencpm-capture", o, { reference: o.uniqueReference, email: emailOf(o) });
}

let forms = 0;

/** Sends when the form of the page is submitted. */
function captureWithForm(o: Options): Widget {
  return load("opencpm-capture", o, {
    buttons: "none", email: emailOf(o),
    reference: o.referenceSelector ? () => document.querySelector<HTMLInputElement>(o.referenceSelector!)?.value.trim() : o.uniqueReference,
  }, (e) => {
    const form = o.formSelector && document.querySelector<HTMLFormElement>(o.formSelector);
    if (!form) return new Error(`There is no form ${o.formSelector ?? ""}.`);
    e.for = form.id ||= `opencpm-form-${++forms}`;
    return null;
  });
}

Object.assign(globalThis, {
  StatefulWidget: { load: (o: Options) => load("opencpm-manage", o) },
  HistoryWidget: { load: (o: Options) => load("opencpm-history", o, { limit: o.limit, filter: o.filter }) },
  StatelessWidget: { load: capture },
  ExpressStatelessCapturePoint: { load: capture },
  ConsentricCaptureWidget: { load: captureWithForm },
});

let configured = false;

/** Some pages say what they want in a global variable, before or after the script. */
function configure(): void {
  if (configured || typeof widget_config === "undefined" || !widget_config) return;
  configured = true;
  const { templateId, token, hideButtons } = widget_config;
  (token ? load.bind(null, "opencpm-manage") : capture)({ id: container, templateId, token, display: { displayButtons: !hideButtons } });
}
ready(configure);
addEventListener("load", configure);
