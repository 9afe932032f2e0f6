/**
 * What a batch of changes must look like before any engine writes it: known kinds, usable ids,
 * values that fit their schema. Pure, and the same for every implementation of ClusterState.
 */
import { type Kind, RECORDS, type RecordOf } from "./records.ts";
import type { Change, Commit } from "./state.ts";

/** As many as etcd takes in one transaction by default. Larger works are several commits. */
export const CHANGES_MAX = 128;

const ID_LENGTH_MAX = 200;
/** Printable ASCII without spaces: an id is a part of paths, keys and log lines. */
const ID_PATTERN = /^[!-~]+$/;

/** A change as it will be written: the value complete with its defaults, or null to delete. */
export interface CheckedChange {
  readonly kind: Kind;
  readonly id: string;
  readonly value: RecordOf<Kind> | null;
  readonly expected: number | undefined;
  readonly leaseId: string | undefined;
}

type Invalid = Extract<Commit, { reason: "invalid" }>;

/** All changes ready to write, or the first change that has problems, with all its problems. */
export function checkChanges(
  changes: readonly Change[],
): { ok: true; checked: CheckedChange[] } | Invalid {
  const checked: CheckedChange[] = [];
  const seen = new Set<string>();
  for (const [index, change] of changes.entries()) {
    const { kind, id, expected } = change;
    const name = `${kind} ${id}`;
    const schema = Object.hasOwn(RECORDS, kind) ? RECORDS[kind] : undefined;
    const parsed = change.value === null ? undefined : schema?.safeParse(change.value);
    const problems = [
      ...(index < CHANGES_MAX ? [] : [`more than ${CHANGES_MAX} changes in one commit`]),
      ...(schema ? [] : ["kind: unknown"]),
      ...idProblems(id),
      ...(seen.has(name) ? ["changed twice in one commit"] : []),
      ...(parsed?.error?.issues ?? []).map(
        ({ path, message }) => `${path.length === 0 ? "value" : path.join(".")}: ${message}`,
      ),
    ];
    if (problems.length > 0) return { ok: false, reason: "invalid", kind, id, problems };
    seen.add(name);
    const leaseId = change.value === null ? undefined : change.lease?.id;
    checked.push({ kind, id, value: parsed?.data ?? null, expected, leaseId });
  }
  return { ok: true, checked };
}

function idProblems(id: string): string[] {
  if (id.length > ID_LENGTH_MAX) return [`id: longer than ${ID_LENGTH_MAX}`];
  return ID_PATTERN.test(id) ? [] : ["id: printable characters without spaces, at least one"];
}
