/** Who calls: what authentication found out, and all that authorization knows of it. */

/** How somebody may prove who they are, or not at all. */
export const PRINCIPAL_KINDS = ["anonymous", "token", "jwt", "certificate"] as const;
/** One of {@link PRINCIPAL_KINDS}. */
export type PrincipalKind = (typeof PRINCIPAL_KINDS)[number];

/**
 * Somebody who calls, for as long as their credential lasts. Decisions are kept by the identity of this object: use one
 * for each credential, not one for each call.
 */
export interface Principal {
  /** As the credential has it; compared byte by byte, so case and look-alike letters count. */
  readonly name: string;
  readonly kind: PrincipalKind;
  readonly groups: readonly string[];
  /** What the credential's issuer says beyond that, as JSON has it. */
  readonly claims: Readonly<Record<string, unknown>>;
}

/** Whoever shows no credential. Rules that name principals, groups or claims are never for it. */
export const ANONYMOUS: Principal = Object.freeze({
  name: "anonymous",
  kind: "anonymous",
  groups: Object.freeze([]),
  claims: Object.freeze({}),
});
