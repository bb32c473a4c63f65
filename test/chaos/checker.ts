/** Judges a run by the histories of its clients: pure functions, one for each group of promises. */
import { checkCredit } from "./checks/credit.ts";
import { checkDeliveries } from "./checks/deliveries.ts";
import type { Evidence, Violation } from "./checks/evidence.ts";
import { checkDrain } from "./checks/drain.ts";
import { checkLife } from "./checks/life.ts";
import { checkLetters } from "./checks/letters.ts";
import { checkPublishes } from "./checks/publishes.ts";
import { checkReads } from "./checks/reads.ts";
import { checkResume } from "./checks/resume.ts";
import { checkRolling } from "./checks/rolling.ts";
import { checkSchedules } from "./checks/schedules.ts";
import { checkSettlements } from "./checks/settlements.ts";
import { checkState } from "./checks/state.ts";
import { checkStatus } from "./checks/status.ts";

const CHECKS = [
  checkPublishes,
  checkDeliveries,
  checkSettlements,
  checkCredit,
  checkLife,
  checkResume,
  checkDrain,
  checkRolling,
  checkStatus,
  checkState,
  checkLetters,
  checkSchedules,
  checkReads,
];

/** Everything that broke a promise. */
export function check(evidence: Evidence): Violation[] {
  return CHECKS.flatMap((one) => one(evidence));
}
