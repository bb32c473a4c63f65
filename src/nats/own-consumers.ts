/** Consumers that servers of ours make for themselves. They come and go, and are nobody's to look into. Pure functions. */
import { randomUUID } from "node:crypto";

/** Held by the server that changes the subjects of a stream for dead letters. No client calls its own one so. */
export const SUBJECTS_LOCK = "ws-lock-1d7c6c5e-0a43-4a53-9f0e-5b1c9a64e7b2";
const WALK_PREFIX = "ws-read-";
/** With all of what makes it unique: clients may call theirs almost so. */
const WALK = /^ws-read-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A name for the consumer of a walk. */
export function newWalkName(): string {
  return WALK_PREFIX + randomUUID();
}

/** True for the name of such a consumer. */
export function isOwnConsumer(name: string): boolean {
  return name === SUBJECTS_LOCK || WALK.test(name);
}
