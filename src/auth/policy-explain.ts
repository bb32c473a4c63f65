/** Why each rule did or did not decide; for people, at leisure. */
import { quote } from "../errors.ts";
import { filtersOverlap } from "../names.ts";
import { type Access, type Question, questionsOf } from "./policy-access.ts";
import { type Grant, type OwnRule, tokensOf, unmatchedName } from "./policy-grants.ts";
import { covers } from "./subset.ts";

/** What one rule had to say. */
export interface RuleNote {
  readonly rule: string;
  /** One sentence for the rule as a whole, or for each entry that is about the verb. */
  readonly notes: readonly string[];
}

/** What each rule has to say to an access. */
export function noteRules(rules: readonly OwnRule[], access: Access): readonly RuleNote[] {
  const questions = questionsOf(access);
  return rules.map((rule) => ({ rule: rule.name, notes: notesOf(rule, questions) }));
}

function notesOf({ problem, grants }: OwnRule, questions: readonly Question[]): readonly string[] {
  const entries = questions.flatMap((question) =>
    grants
      .filter(({ verbs }) => verbs.has(question.verb))
      .map((grant) => `${grant.path} (${grant.effect} ${question.verb}): ${noteOn(grant, question)}`),
  );
  if (problem !== undefined) return [`does not apply: ${problem}`, ...entries];
  return entries.length === 0 ? [`says nothing of ${questions.map(({ verb }) => verb).join(" or ")}`] : entries;
}

function noteOn(grant: Grant, question: Question): string {
  const dimension = unmatchedName(grant, question);
  if (dimension !== undefined) {
    const patterns = (grant.names.get(dimension) ?? []).map(({ pattern }) => pattern);
    return `its ${dimension} are others: ${listed(patterns)}`;
  }
  const filters = question.filters.map((filter) => filter.split("."));
  const patterns = tokensOf(grant, question);
  const isCommon = patterns.some((pattern) => filters.some((filter) => filtersOverlap(pattern, filter)));
  if (grant.effect === "deny" && (filters.length === 0 || isCommon)) return "denies it";
  const shown = listed(patterns.map((tokens) => tokens.join(".")));
  if (grant.effect === "deny") return `its ${question.filterDimension} are others: ${shown}`;
  const outside = filters.filter((filter) => !covers(patterns, filter));
  if (outside.length === 0) return "allows it";
  const partly = outside.some((filter) => patterns.some((pattern) => filtersOverlap(pattern, filter)));
  const left = outside.map((filter) => filter.join("."));
  return `${partly ? "allows a part, not" : "does not allow"} all of ${listed(left)}: its ${question.filterDimension} are ${shown}`;
}

function listed(texts: readonly string[]): string {
  return texts.length === 0 ? "none" : texts.map(quote).join(", ");
}
