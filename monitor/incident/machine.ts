/** The states of an incident and the ways between them. An illegal one is a fault of ours. */
import assert from "node:assert/strict";
import { type Incident, type IncidentState, shownId } from "../../core/cluster/incidents.ts";

/**
 *     open <-> acknowledged        somebody took it; it was given back, or the time was over
 *     open, acknowledged -> recovering   calm for 30 s
 *     recovering -> resolved             calm for 120 s more
 *     recovering, resolved -> open       a relapse, within 10 min
 */
export const LEGAL: Record<IncidentState, readonly IncidentState[]> = {
  open: ["acknowledged", "recovering", "resolved"],
  acknowledged: ["open", "recovering", "resolved"],
  recovering: ["open", "acknowledged", "resolved"],
  resolved: ["open"],
};

/** Changes the state of an incident that is being edited. */
export function moveIncident(incident: Incident, to: IncidentState): void {
  const from = incident.state;
  assert(LEGAL[from].includes(to), `incident ${shownId(incident)}: ${from} -> ${to}`);
  incident.state = to;
}
