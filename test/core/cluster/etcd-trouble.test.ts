/** What etcd does to a state in real life: it goes away, comes back, forgets, and is shared. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Etcd3 } from "etcd3";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { CHANGES_MAX } from "../../../core/cluster/changes.ts";
import { type EtcdStateOptions, openEtcdState } from "../../../core/cluster/etcd.ts";
import { openState } from "../../../core/cluster/open.ts";
import { type Change, type ClusterState, STATE_PATIENCE_MS } from "../../../core/cluster/state.ts";
import { describeWith } from "../../e2e/suite.ts";
import { type Certificates, makeCertificates } from "../../harness/certificates.ts";
import { Etcd } from "../../harness/etcd.ts";
import { Gate } from "../../harness/gate.ts";
import { freePort } from "../../harness/ports.ts";
import { temporaryFolder } from "../../harness/processes.ts";
import { until, Watcher } from "./contract-place.ts";
import { cacheChange } from "./samples.ts";

const AWAY = { name: "StateUnavailable" };

/** A record as large as it is wished. */
function audit(id: string, size: number) {
  const value = { atMs: 0, actor: "", from: "", action: "", cache: "", subject: "", before: null };
  return { kind: "audit", id, value: { ...value, after: "x".repeat(size) } } as const;
}

describeWith(["etcd"], "etcd in trouble", () => {
  let etcd: Etcd;
  let client: Etcd3;
  let prefix = "";
  let placeCount = 0;
  const opened: ClusterState[] = [];

  beforeAll(async () => {
    etcd = await Etcd.start();
    client = new Etcd3({ hosts: etcd.endpoint });
  });
  afterEach(async () => {
    for (const state of opened.splice(0)) await state.close();
    placeCount++;
  });
  afterAll(async () => {
    client?.close();
    await etcd?.stop();
  });

  function open(options: Partial<EtcdStateOptions> = {}): ClusterState {
    prefix = `/trouble-${placeCount}/`;
    const troubled = (): void => {};
    const state = openEtcdState({ endpoints: [etcd.endpoint], prefix, troubled, ...options });
    opened.push(state);
    return state;
  }

  async function put(state: ClusterState, ...ids: string[]): Promise<number> {
    const commit = await state.commit(ids.map((id) => cacheChange(id)));
    if (!commit.ok) throw new Error(JSON.stringify(commit));
    return commit.revision;
  }

  describe("away", () => {
    test("an etcd that stands still: every call says so in bounded time", async () => {
      const state = open();
      await put(state, "a");
      etcd.signal("SIGSTOP");
      const startedAt = performance.now();
      await Promise.all([
        expect(state.get("cache", "a")).rejects.toMatchObject(AWAY),
        expect(state.list("cache")).rejects.toMatchObject(AWAY),
        expect(state.commit([cacheChange("b")])).rejects.toMatchObject(AWAY),
        expect(state.lease({ ttlMs: 5_000 })).rejects.toMatchObject(AWAY),
      ]);
      // A hang would be ten times that.
      expect(performance.now() - startedAt).toBeLessThan(STATE_PATIENCE_MS * 4);
      etcd.signal("SIGCONT");
      expect(await state.get("cache", "a")).toBeDefined();
    });

    test("a call that comes while etcd starts again is only answered later", async () => {
      const state = open();
      await put(state, "a");
      await etcd.halt();
      // Of a write on a connection that has ended unnoticed nobody could say whether it was done.
      await sleep(50);
      const both = Promise.all([state.get("cache", "a"), put(state, "b")]);
      await Promise.all([both, etcd.startAgain()]);
      const [found, revision] = await both;
      expect(found).toBeDefined();
      expect(revision).toBeGreaterThan(0);
    });

    test("a watch goes on where it was: nothing lost, nothing twice", async () => {
      const state = open();
      const watcher = new Watcher();
      const first = await put(state, "a");
      state.watch(first - 1, watcher);
      await watcher.reached(first);
      await etcd.halt();
      await etcd.startAgain();
      const revisions = [first, await put(state, "b"), await put(state, "c", "d")];
      await watcher.reached(revisions.at(-1) as number);
      expect(watcher.revisions).toEqual(revisions);
      expect(watcher.resetCount).toBe(0);
    });

    test("what was forgotten meanwhile makes a reset, then everything, then what follows", async () => {
      const gate = await Gate.open(etcd.endpoint);
      const direct = open();
      const watcher = new Watcher();
      const first = await put(direct, "a", "doomed");
      open({ endpoints: [gate.address] }).watch(first - 1, watcher);
      await watcher.reached(first);
      await gate.shut();
      await direct.commit([{ kind: "cache", id: "doomed", value: null }]);
      const newest = await put(direct, "b");
      await client.kv.compact({ revision: newest, physical: true });
      await gate.openAgain();
      await until(() => watcher.resetCount === 1);
      await watcher.reached(newest);
      expect([...watcher.records.keys()]).toEqual(["cache a", "cache b"]);
      const next = await put(direct, "c");
      await watcher.reached(next);
      expect(watcher.revisions).toEqual([first, newest, next]);
      await gate.shut();
    });
  });

  describe("with several members", () => {
    test("one that nobody runs is passed over, by writes as well", async () => {
      const state = open({ endpoints: [`127.0.0.1:${await freePort()}`, etcd.endpoint] });
      const revision = await put(state, "a");
      const watcher = new Watcher();
      state.watch(revision - 1, watcher);
      await watcher.reached(revision);
      expect((await state.get("cache", "a"))?.revision).toBe(revision);
    });

    test("one that says nothing any more is left: calls and watches go to the next", async () => {
      const gate = await Gate.open(etcd.endpoint);
      const state = open({ endpoints: [gate.address, etcd.endpoint] });
      const first = await put(state, "a");
      const watcher = new Watcher();
      state.watch(first - 1, watcher);
      await watcher.reached(first);
      gate.stick();
      expect(await state.get("cache", "a")).toBeDefined();
      const second = await put(state, "b");
      await watcher.reached(second);
      expect(watcher.revisions).toEqual([first, second]);
      await gate.shut();
    });
  });

  describe("shared with others", () => {
    test("their writes move the revision and are told to nobody", async () => {
      const state = open();
      const watcher = new Watcher();
      const first = await put(state, "a");
      state.watch(first - 1, watcher);
      await client.put("/others/key").value("theirs");
      const list = await state.list("cache");
      expect(list.revision).toBe(first + 1);
      const second = await put(state, "b");
      await watcher.reached(second);
      expect(watcher.revisions).toEqual([first, second]);
    });

    test("watches that were opened for some kinds hear of these, whenever they begin", async () => {
      const direct = open();
      const state = openEtcdState({
        endpoints: [etcd.endpoint],
        prefix,
        kinds: ["proxy", "ejection"],
      });
      opened.push(state);
      const proxy = (pid: number): Change => {
        const value = { pid, addresses: [], ready: true, appliedRevision: 0, startedAtMs: 0 };
        return { kind: "proxy", id: "p", value };
      };
      const above: Change = {
        kind: "suspicion",
        id: "c/n@p",
        value: { cache: "c", node: "n", proxy: "p", reason: "slow", sinceMs: 0 },
      };
      const watcher = new Watcher();
      const { revision } = await state.list("proxy");
      state.watch(revision, watcher);
      await put(direct, "below");
      await direct.commit([above]);
      const told = await direct.commit([proxy(1), cacheChange("beside")]);
      if (!told.ok) throw new Error(told.reason);
      await watcher.reached(told.revision);
      await put(direct, "after");
      const late = new Watcher();
      state.watch((await state.list("proxy")).revision, late);
      const last = await direct.commit([proxy(2)]);
      if (!last.ok) throw new Error(last.reason);
      await late.reached(last.revision);
      await watcher.reached(last.revision);
      expect(watcher.revisions).toEqual([told.revision, last.revision]);
      expect(watcher.told.flatMap(({ seen }) => seen.map(({ kind }) => kind))).toEqual([
        "proxy",
        "proxy",
      ]);
      expect(late.revisions).toEqual([last.revision]);
    });

    test("what somebody else put under our prefix is passed over", async () => {
      const state = open();
      const first = await put(state, "a");
      const watcher = new Watcher();
      state.watch(first, watcher);
      for (const [key, value] of [
        ["unheardOf/x", "{}"],
        ["cache/broken", "no JSON"],
        ["stray", "1"],
      ] as const) {
        await client.put(prefix + key).value(value);
      }
      const last = await put(state, "b");
      await watcher.reached(last);
      expect(watcher.told.flatMap(({ seen }) => seen.map(({ id }) => id))).toEqual(["b"]);
      expect((await state.list("cache")).entries.map(({ id }) => id)).toEqual(["a", "b"]);
      expect(await state.get("cache", "broken")).toBeUndefined();
    });
  });

  describe("large", () => {
    test("lists of many pages are one list, also from the end and as a reset", async () => {
      const state = open();
      const ids = Array.from(
        { length: 3_000 },
        (_, index) => `c-${String(index).padStart(6, "0")}`,
      );
      let revision = 0;
      for (let at = 0; at < ids.length; at += CHANGES_MAX) {
        revision = await put(state, ...ids.slice(at, at + CHANGES_MAX));
      }
      const idsOf = async (selection: object): Promise<string[]> =>
        (await state.list("cache", selection)).entries.map(({ id }) => id);
      expect(await idsOf({})).toEqual(ids);
      expect(await idsOf({ descending: true })).toEqual(ids.toReversed());
      expect(await idsOf({ limit: 1_500 })).toEqual(ids.slice(0, 1_500));
      expect(await idsOf({ limit: 1_500, descending: true })).toEqual(
        ids.toReversed().slice(0, 1_500),
      );
      expect(await idsOf({ before: ids[2_000], prefix: "c-00" })).toEqual(ids.slice(0, 2_000));
      await client.kv.compact({ revision, physical: true });
      const watcher = new Watcher();
      state.watch(1, watcher);
      await watcher.reached(revision);
      expect(watcher.told).toHaveLength(1);
      expect(watcher.records.size).toBe(ids.length);
    });

    test("history that comes in fragments is told revision by revision, each as a whole", async () => {
      const state = open();
      const { revision: base } = await state.list("audit");
      const revisions: number[] = [];
      for (let index = 0; index < 5; index++) {
        const changes = Array.from({ length: 100 }, (_, at) => audit(`${index}-${at}`, 12_000));
        const commit = await state.commit(changes);
        expect(commit.ok).toBe(true);
        if (commit.ok) revisions.push(commit.revision);
      }
      const watcher = new Watcher();
      state.watch(base, watcher);
      await watcher.reached(revisions.at(-1) as number);
      expect(watcher.revisions).toEqual(revisions);
      expect(watcher.told.map(({ seen }) => seen.length)).toEqual([100, 100, 100, 100, 100]);
    });

    test("a commit that is more than etcd takes is invalid, and says so", async () => {
      const commit = await open().commit([audit("large", 2 * 2 ** 20)]);
      expect(commit).toMatchObject({ ok: false, reason: "invalid", id: "large" });
    });
  });
});

describeWith(["etcd", "openssl"], "an etcd that lets not everybody in", () => {
  const login = { username: "memward", password: "a-password-nobody-may-read" };
  let etcd: Etcd;
  let endpoint = "";
  let certificates: Certificates;
  let tls: NonNullable<EtcdStateOptions["tls"]>;
  const opened: ClusterState[] = [];

  beforeAll(async () => {
    certificates = makeCertificates();
    const { ca, server, client } = certificates;
    etcd = await Etcd.start({ tls: { ...server, ca } });
    const read = (path: string): Buffer => readFileSync(path);
    tls = { ca: read(ca), certificate: read(client.certificate), key: read(client.key) };
    endpoint = etcd.endpoint.replace("127.0.0.1", "localhost");
    const admin = new Etcd3({
      hosts: `https://${endpoint}`,
      credentials: {
        rootCertificate: tls.ca as Buffer,
        privateKey: tls.key as Buffer,
        certChain: tls.certificate as Buffer,
      },
    });
    const role = await admin.role("memward").create();
    await role.grant({ permission: "Readwrite", range: admin.range({ prefix: "/memward/" }) });
    const root = await admin.user("root").create("root");
    await root.addRole((await admin.role("root").create()).name);
    await (await admin.user(login.username).create(login.password)).addRole("memward");
    await admin.auth.authEnable();
    admin.close();
  });
  afterAll(async () => {
    for (const state of opened) await state.close();
    await etcd?.stop();
  });

  function open(options: Partial<EtcdStateOptions>): ClusterState {
    const state = openEtcdState({ endpoints: [endpoint], troubled: () => {}, ...options });
    opened.push(state);
    return state;
  }

  test("with a certificate and a login everything works, watches and leases too", async () => {
    const state = open({ tls, login });
    const watcher = new Watcher();
    const { revision } = await state.list("cache");
    state.watch(revision, watcher);
    const lease = await state.lease({ ttlMs: 5_000 });
    await state.commit([{ ...cacheChange("a"), lease }]);
    await watcher.reached(revision + 1);
    await lease.revoke();
    await until(async () => (await state.list("cache")).entries.length === 0);
  });

  test("options name files; the password's may end with a line", async () => {
    const passwordFile = join(temporaryFolder("memward-etcd-login"), "password");
    writeFileSync(passwordFile, `${login.password}\n`);
    const { ca: caFile, client } = certificates;
    const { certificate: certFile, key: keyFile } = client;
    const state = await openState({
      url: `etcd://${endpoint}`,
      path: "unused",
      etcd: { caFile, certFile, keyFile, username: login.username, passwordFile },
      troubled: () => {},
    });
    opened.push(state);
    expect((await state.commit([cacheChange("by-files")])).ok).toBe(true);
    await state.commit([{ kind: "cache", id: "by-files", value: null }]);
  });

  test("its address will do where the name in its certificate is given", async () => {
    const state = open({
      endpoints: [etcd.endpoint],
      tls: { ...tls, serverName: "localhost" },
      login,
    });
    expect((await state.list("cache")).entries).toEqual([]);
  });

  const outsiders: [string, () => Partial<EtcdStateOptions>, RegExp][] = [
    [
      "a wrong password",
      () => ({ tls, login: { ...login, password: "guessed" } }),
      /refuses.*auth/,
    ],
    ["no login", () => ({ tls }), /refuses/],
    [
      "a prefix of others",
      () => ({ tls, login, prefix: "/others/" }),
      /refuses.*permission denied/,
    ],
    ["no certificate", () => ({ tls: { ca: tls.ca }, login }), /is away/],
    ["no TLS", () => ({ login }), /is away/],
    [
      "another server",
      () => ({ tls: { ...tls, serverName: "etcd.example" }, login }),
      /is away.*certificate/,
    ],
  ];
  test.concurrent.each(
    outsiders,
  )("%s is told apart, without the secret", async (_, options, sentence) => {
    const failure = await open(options())
      .list("cache")
      .catch((error: Error) => error);
    expect(failure).toMatchObject({ ...AWAY, message: expect.stringMatching(sentence) });
    expect(String(failure)).not.toMatch(/guessed|nobody-may-read/);
  });
});
