/** What keeps the daemon from starting, told to the person who starts it: the message says what to do. */
export class StartError extends Error {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "StartError";
  }
}
