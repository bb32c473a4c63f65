/** What somebody has proved to be, and until when. */
import { WindshiftError } from "../errors.ts";
import type { Principal } from "./principal.ts";

/** A proof that held. One object for each credential, however many calls come with it. */
export interface Credential {
  readonly principal: Principal;
  /** When it ends by itself, in milliseconds since the epoch; `Infinity` is never. */
  readonly expiresAtMs: number;
}

const MAX_NAME_LENGTH = 256;
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

/** Whether a credential may call its holder so. Any language is fine; what would break a line of a log is not. */
export function isPrincipalName(name: unknown): name is string {
  return typeof name === "string" && name !== "" && name.length <= MAX_NAME_LENGTH && !CONTROL.test(name);
}

/** Callers learn that their credential does not do, and nothing of why: that is for the log, without the credential. */
export function unauthenticated(why: string): WindshiftError {
  const cause = new Error(why);
  // Where in the server it was found out says nothing to whoever reads the log.
  delete cause.stack;
  return new WindshiftError("UNAUTHENTICATED", "the call needs a valid credential", { cause });
}
