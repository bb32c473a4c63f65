/** Where a claim is found among what an issuer says. */

/**
 * A claim by its whole name, or by the way to it: `realm_access.roles`, `kubernetes.io.namespace`. Of several ways the one
 * with the longest name first counts. Undefined where there is none.
 */
export function claimOf(claims: object, name: string): unknown {
  const whole = ownValue(claims, name);
  if (whole !== undefined) return whole;
  for (let dot = name.lastIndexOf("."); dot > 0; dot = name.lastIndexOf(".", dot - 1)) {
    const inner = ownValue(claims, name.slice(0, dot));
    const found = typeof inner === "object" && inner !== null ? claimOf(inner, name.slice(dot + 1)) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

function ownValue(claims: object, name: string): unknown {
  return Object.hasOwn(claims, name) ? (claims as Readonly<Record<string, unknown>>)[name] : undefined;
}
