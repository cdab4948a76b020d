// The one place where HTML becomes part of a page: fragments that our own server
// rendered, and escaped, arrive through the page's own connection.
interface Policy {
  createHTML(html: string): string;
}

const types = (globalThis as { trustedTypes?: { createPolicy(name: string, rules: Policy): Policy } }).trustedTypes;
const policy: Policy = types?.createPolicy("opencpm", { createHTML: (html) => html }) ?? { createHTML: (html) => html };

export function fragment(html: string): DocumentFragment {
  const template = document.createElement("template");
  template.innerHTML = policy.createHTML(html);
  return template.content;
}
