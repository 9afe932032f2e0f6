/** What tests see of a running process from outside: its memory, and its counters. */
import { readFileSync } from "node:fs";

/** Resident bytes of a process (Linux). */
export function rssOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  return Number(kilobytes ?? 0) * 1024;
}

export type Sample = { name: string; labels: Record<string, string>; value: number };

/** Prometheus text format, version 0.0.4. */
export function samples(text: string): Sample[] {
  const found: Sample[] = [];
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (match === null) continue;
    const [, name = "", labels = "", value = ""] = match;
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)];
    const asRecord = Object.fromEntries(pairs.map(([, key, text]) => [key, text]));
    found.push({ name, labels: asRecord, value: Number(value) });
  }
  return found;
}

/** Sum of all samples whose name matches, and of whose labels one matches. */
export function counterSum(text: string, name: RegExp, label: RegExp = /(?:)/): number {
  return samples(text)
    .filter(
      (sample) =>
        name.test(sample.name) && Object.values(sample.labels).some((value) => label.test(value)),
    )
    .reduce((sum, { value }) => sum + value, 0);
}
