// What is saved in one widget of the shop is read anew by the others that show it.

export {}; // a module, whose names are its own

addEventListener("consent:success", () => {
  for (const history of document.querySelectorAll<HTMLElement & { reload(): Promise<void> }>("opencpm-history")) void history.reload();
});
