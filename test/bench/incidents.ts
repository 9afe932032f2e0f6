/**
 * Simulated days through the real detector: how many incidents healthy traffic opens, and the
 * jitter of 2016. `--hours` of traffic of 18 pairs of proxies and nodes, for each rate and seed.
 */
import { type Fault, incidentsOf, jitter2016 } from "../monitor/detect/simulation.ts";

export interface IncidentsRow {
  traffic: string;
  rate: number;
  hours: number;
  /** Incidents that page, and all of them by key. */
  pages: number;
  incidents: string[];
}

const RATES = [200, 30, 10];
const TRAFFIC: readonly [string, Fault | undefined][] = [
  ["healthy", undefined],
  ["jitter of 2016", jitter2016],
];
const SEED = 20_261_121;

export function benchIncidents(hours: number): IncidentsRow[] {
  const rows: IncidentsRow[] = [];
  for (const [traffic, fault] of TRAFFIC) {
    for (const rate of RATES) {
      const setting = { proxies: 3, nodes: 6, rate, seed: SEED + rate, ...(fault && { fault }) };
      const found = incidentsOf(setting, hours * 3_600_000);
      const pages = found.filter(({ severity }) => severity === "crit").length;
      const row = { traffic, rate, hours, pages, incidents: found.map(({ key }) => key) };
      rows.push(row);
      process.stderr.write(`incidents: ${hours} h ${traffic} at ${rate}/s\n`);
    }
  }
  return rows;
}

export function incidentsText(rows: readonly IncidentsRow[]): string {
  const lines = rows.map(({ traffic, rate, hours, pages, incidents }) => {
    const told = incidents.length === 0 ? "none" : incidents.slice(0, 5).join(", ");
    return `| ${traffic} | ${rate} | ${hours} | ${pages} | ${incidents.length}: ${told} |`;
  });
  return [
    "| simulated traffic, 3 proxies x 6 nodes | op/s and pair | hours | pages | incidents |",
    "|---|---|---|---|---|",
    ...lines,
  ].join("\n");
}
