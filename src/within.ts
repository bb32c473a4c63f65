/** True when `work` has ended either way, false after `limitMs`; the work itself goes on. */
export async function within(limitMs: number, work: Promise<unknown> | undefined): Promise<boolean> {
  const { promise: isLate, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), limitMs);
  const isDone = Promise.allSettled([work]).then(() => true);
  const result = await Promise.race([isDone, isLate]);
  clearTimeout(timer);
  return result;
}
