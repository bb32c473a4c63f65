/** Where a command writes to. */
export interface Output {
  /** What was asked for. */
  out(text: string): void;
  /** What went wrong, and what is not for the next program. */
  err(text: string): void;
}
