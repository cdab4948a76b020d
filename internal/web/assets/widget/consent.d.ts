// Types of the OpenCPM widgets, for TypeScript: /// <reference path="consent.d.ts" />

export type WidgetState = "loading" | "ready" | "saving" | "saved" | "empty" | "expired" | "error";

/** What the API refused with; status is 0 where there was no answer. */
export interface WidgetError extends Error {
  readonly status: number;
  readonly problem: { title?: string; detail?: string; errors?: { location: string; message: string }[] };
}

/** The consent state with the answers in it, as the API gives and takes it. */
export interface ConsentState {
  applicationId: string;
  templateId: string;
  locale: string;
  snapshot: string;
  blocks: Record<string, unknown>[];
  [field: string]: unknown;
}

interface Shared extends HTMLElement {
  /** Base URL of the API; by default the origin that the script came from. */
  api: string;
  locale: string;
  theme: "" | "auto" | "light" | "dark";
  unstyled: boolean;
  readonly state: WidgetState;
  reload(): Promise<void>;
}

interface FormShared extends Shared {
  template: string;
  rule: string;
  channel: string;
  campaign: string;
  pending: boolean;
  buttons: "" | "none";
  readonly value: ConsentState | null;
  /** Sends the answers and gives what the API answered; rejects with a WidgetError. */
  submit(): Promise<unknown>;
  reset(): void;
}

export interface OpenCPMManageElement extends FormShared {
  token: string;
  autosave: boolean;
}

export interface OpenCPMCaptureElement extends FormShared {
  reference: string | (() => string | number | null | undefined);
  email: string | (() => string | null | undefined);
  for: string;
  name: string;
}

export interface OpenCPMHistoryElement extends Shared {
  token: string;
  limit: string;
  filter: "" | "transaction" | "submission";
  readonly value: unknown[] | null;
}

export interface ConsentEvents {
  "consent:load": CustomEvent<unknown>;
  "consent:loaderror": CustomEvent<WidgetError>;
  "consent:empty": CustomEvent<unknown>;
  "consent:expired": CustomEvent<WidgetError>;
  "consent:update": CustomEvent<ConsentState>;
  "consent:submit": CustomEvent<ConsentState>;
  "consent:success": CustomEvent<{ response: unknown; submission: ConsentState }>;
  "consent:failure": CustomEvent<{ error: WidgetError; submission: ConsentState }>;
}

declare global {
  interface HTMLElementTagNameMap {
    "opencpm-manage": OpenCPMManageElement;
    "opencpm-history": OpenCPMHistoryElement;
    "opencpm-capture": OpenCPMCaptureElement;
  }
  interface HTMLElementEventMap extends ConsentEvents {}
}
