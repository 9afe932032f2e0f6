/**
 * `npm run bench -- --only xmpp`: the way of a page over a real prosody on this machine. How long a
 * login takes, a page until its device's receipt, a cut link until it is resumed, and a server that
 * was killed until pages go out again, counted from the moment when its port is open. Over
 * loopback: of phones it says nothing.
 */
import { XmppClient } from "../../monitor/xmpp/client.ts";
import { Device } from "../harness/device.ts";
import { Gate } from "../harness/gate.ts";
import { missing } from "../harness/processes.ts";
import { Prosody } from "../harness/prosody.ts";
import { Observed } from "../monitor/xmpp/observed.ts";

const COUNTS = { login: 20, receipt: 200, resume: 10, restart: 5 };
/** Milliseconds that the 99th percentile may take. */
const BARS = { login: 250, receipt: 250, resume: 1_000, restart: 1_000 } as const;

export type XmppFigures = {
  what: string;
  count: number;
  p50Ms: number;
  p99Ms: number;
  verdict: "met" | "missed";
};

export async function benchXmpp(): Promise<XmppFigures[]> {
  const absent = missing("prosody", "openssl");
  if (absent !== undefined) {
    process.stdout.write(`not measured: xmpp, ${absent}\n`);
    return [];
  }
  const prosody = await Prosody.start();
  const alice = await Device.start(prosody, "alice");
  try {
    return [
      figuresOf("login", await times(COUNTS.login, () => login(prosody))),
      figuresOf("receipt", await receipts(prosody)),
      figuresOf("resume", await resumes(prosody)),
      figuresOf("restart", await restarts(prosody)),
    ];
  } finally {
    await alice.kill();
    await prosody.stop();
  }
}

export function xmppText(figures: readonly XmppFigures[]): string {
  const lines = figures.map(({ what, count, p50Ms, p99Ms, verdict }) => {
    const values = [p50Ms, p99Ms].map((ms) => ms.toFixed(1).padStart(8)).join(" ");
    return `${`${what} (${count})`.padEnd(28)} ${values}  ${verdict}`;
  });
  const bars = Object.entries(BARS).map(([what, ms]) => `${what} ${ms}`);
  return [
    `${"over XMPP, ms".padEnd(28)}      p50      p99`,
    ...lines,
    `bars, p99: ${bars.join(", ")} ms`,
  ].join("\n");
}

async function times(count: number, run: () => Promise<number>): Promise<number[]> {
  const values: number[] = [];
  while (values.length < count) values.push(await run());
  return values;
}

function open(prosody: Prosody, port = prosody.port): { link: XmppClient; told: Observed } {
  const link = new XmppClient({ ...prosody.account("monitor"), port });
  const told = new Observed();
  link.start(told);
  return { link, told };
}

async function login(prosody: Prosody): Promise<number> {
  const startedAtMs = performance.now();
  const { link, told } = open(prosody);
  const at = await told.until(/^up/);
  await link.close();
  return (told.atMs[at - 1] ?? Number.NaN) - startedAtMs;
}

async function receipts(prosody: Prosody): Promise<number[]> {
  const { link, told } = open(prosody);
  await told.until(/^up/);
  let count = 0;
  const values = await times(COUNTS.receipt, async () => {
    count += 1;
    const id = `${count}.1.alice`;
    const message = { id, to: prosody.jid("alice"), body: `#${count} CRIT`, wantsReceipt: true };
    const startedAtMs = performance.now();
    await link.send({ ...message, isRoom: false });
    const at = await told.until(new RegExp(`^received \\S+ ${count}\\.1\\.alice$`));
    return (told.atMs[at - 1] ?? Number.NaN) - startedAtMs;
  });
  await link.close();
  return values;
}

async function resumes(prosody: Prosody): Promise<number[]> {
  const gate = await Gate.open(`127.0.0.1:${prosody.port}`);
  const { link, told } = open(prosody, Number(gate.address.split(":")[1]));
  let from = await told.until(/^up/);
  const values = await times(COUNTS.resume, async () => {
    await gate.shut();
    from = await told.until(/^down/, { from });
    await gate.openAgain();
    const openedAtMs = performance.now();
    from = await told.until(/^up/, { from });
    return (told.atMs[from - 1] ?? Number.NaN) - openedAtMs;
  });
  await link.close();
  await gate.shut();
  return values;
}

async function restarts(prosody: Prosody): Promise<number[]> {
  const { link, told } = open(prosody);
  let from = await told.until(/^up/);
  const values = await times(COUNTS.restart, async () => {
    await prosody.kill();
    from = await told.until(/^down unreachable/, { from });
    await prosody.startAgain(); // Returns when the port is open; it may be up by then.
    const openedAtMs = performance.now();
    from = await told.until(/^up/, { from });
    return Math.max(0, (told.atMs[from - 1] ?? Number.NaN) - openedAtMs);
  });
  await link.close();
  return values;
}

function figuresOf(what: keyof typeof BARS, values: readonly number[]): XmppFigures {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
  const [p50Ms, p99Ms] = [at(0.5), at(0.99)];
  const verdict = p99Ms <= BARS[what] ? "met" : "missed";
  return { what, count: values.length, p50Ms, p99Ms, verdict };
}
