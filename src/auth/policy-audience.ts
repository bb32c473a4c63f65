/** Reads whom a rule is for. It must be said: a forgotten key shall not mean everybody. */
import { quote } from "../errors.ts";
import type { Path, PolicyReader } from "./policy-reader.ts";
import type { Audience, ClaimValue } from "./policy-rule.ts";
import { PRINCIPAL_KINDS, type PrincipalKind } from "./principal.ts";

const KNOWN: ReadonlySet<PrincipalKind> = new Set(PRINCIPAL_KINDS.filter((kind) => kind !== "anonymous"));
/** Control characters, marks of direction and whatever else does not show, and blanks at an end. */
const UNSEEN = /\p{C}|^\s|\s$/u;

/** Reads the `for` of a rule. */
export function readAudience(reader: PolicyReader, value: unknown, path: Path): Audience {
  if (value === "everyone") return {};
  if (value === "authenticated") return { kinds: KNOWN };
  if (typeof value === "string") {
    reader.fault(path, `${quote(value)} is nobody: write everyone, authenticated, or a mapping`);
    return {};
  }
  const given = reader.mapping(value, path, ["principals", "groups", "kinds", "claims"]);
  if (given?.size === 0) reader.fault(path, "is empty: write everyone, if it shall be for everyone");
  const read = <T>(key: string, parse: (value: unknown, path: Path) => T): Record<string, T> =>
    given?.has(key) === true ? { [key]: parse(given.get(key), [...path, key]) } : {};
  return {
    ...read("kinds", (list, at) => readKinds(reader, list, at)),
    ...read("principals", (list, at) => readNames(reader, list, at)),
    ...read("groups", (list, at) => readNames(reader, list, at)),
    ...read("claims", (map, at) => readClaims(reader, map, at)),
  };
}

function readKinds(reader: PolicyReader, value: unknown, path: Path): ReadonlySet<PrincipalKind> {
  const kinds = new Set<PrincipalKind>();
  for (const [index, text] of reader.texts(value, path).entries()) {
    const kind = PRINCIPAL_KINDS.find((each) => each === text);
    if (kind === undefined)
      reader.fault([...path, index], `${quote(text)} is no kind: there are ${PRINCIPAL_KINDS.join(", ")}`);
    else kinds.add(kind);
  }
  return kinds;
}

/** Names as credentials have them. What only looks like another name is refused. */
function readNames(reader: PolicyReader, value: unknown, path: Path): ReadonlySet<string> {
  const names = reader.texts(value, path);
  for (const [index, name] of names.entries()) {
    if (UNSEEN.test(name)) reader.fault([...path, index], `${quote(name)} has characters that cannot be seen`);
    if (name !== name.normalize("NFC")) reader.fault([...path, index], `${quote(name)} is not in Unicode's form NFC`);
  }
  return new Set(names);
}

function readClaims(reader: PolicyReader, value: unknown, path: Path): ReadonlyMap<string, ReadonlySet<ClaimValue>> {
  const claims = reader.mapping(value, path);
  if (claims?.size === 0) reader.fault(path, "must name a claim");
  return new Map(
    [...(claims ?? [])].map(([claim, expected]) => {
      const at = [...path, claim];
      const values = Array.isArray(expected) ? reader.list(expected, at) : [expected];
      if (!values.every(isClaimValue)) reader.fault(at, "must be a text, a number, true, false, or a list of such");
      return [claim, new Set(values.filter(isClaimValue))];
    }),
  );
}

function isClaimValue(value: unknown): value is ClaimValue {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean";
}
