/**
 * `npm test`: the real parts that tests run against, then types, format and lint, then the tests.
 * Ends with one line `N passed, N failed, N skipped`; whatever was skipped is named before it, and
 * why. Types and lint count as one test each. Plain JavaScript: it runs on Node 20 as well.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { install } from "./install.mjs";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const BIN = join(ROOT, "node_modules", ".bin");
/** Debian keeps daemons in sbin, which is not on everybody's path. */
const SBIN = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
const POLICY = "/usr/sbin/policy-rc.d";

/** Programs that tests need, and the Debian package of each. */
const PARTS = [
  { program: "memcached", package: "memcached", for: "conformance against real memcached" },
  { program: "memcstat", package: "libmemcached-tools", for: "libmemcached's tools with SASL" },
  { program: "memccapable", package: "libmemcached-tools", for: "memccapable" },
  { program: "etcd", package: "etcd-server", for: "the cluster state in etcd" },
  { program: "openssl", package: "openssl", for: "certificates for etcd" },
  { program: "zsh", package: "zsh", for: "shell completion in zsh" },
  { program: "fish", package: "fish", for: "shell completion in fish" },
  { program: "nutcracker", package: "nutcracker", for: "ketama vectors from nutcracker" },
  { program: "prosody", package: "prosody", for: "messages of the monitor over XMPP" },
];

const PATH = [BIN, process.env.PATH ?? "", ...SBIN].join(delimiter);
const passed = [];
/** Failed, then passed: nobody should have to look for these. */
const unsteady = [];
const failed = [];
const skipped = [];

function main() {
  if (!install()) return finish([], ["npm packages"], []);
  installParts();
  check("types", ["tsc", "-p", "."]);
  check("format and lint", ["biome", "check", "--error-on-warnings", "."]);
  runTests(process.argv.slice(2));
  finish();
}

function check(name, [program, ...args]) {
  const { status } = spawnSync(join(BIN, program), args, options({ stdio: "inherit" }));
  (status === 0 ? passed : failed).push(name);
  console.log(`${status === 0 ? "✓" : "✗"} ${name}`);
}

function runTests(args) {
  const folder = mkdtempSync(join(tmpdir(), "memward-test-"));
  const report = join(folder, "report.json");
  try {
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    const vitest = [join(BIN, "vitest"), "run", ...reporters, ...args];
    const { status } = spawnSync(join(BIN, "node"), vitest, options({ stdio: "inherit" }));
    count(existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : undefined, status);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function count(report, status) {
  const before = failed.length;
  for (const file of report?.testResults ?? []) {
    const path = relative(ROOT, file.name);
    for (const { status: outcome, fullName, failureMessages } of file.assertionResults) {
      const list = { passed, failed }[outcome] ?? skipped;
      list.push(`${path}: ${fullName}`);
      const isUnsteady = outcome === "passed" && failureMessages.length > 0;
      if (isUnsteady) unsteady.push(`${path}: ${fullName}: ${firstLine(failureMessages[0])}`);
    }
    // A file that cannot be loaded has no tests, and must not pass for that reason.
    const told = file.assertionResults.some(({ status: outcome }) => outcome === "failed");
    if (file.status === "failed" && !told) failed.push(`${path}: ${firstLine(file.message)}`);
  }
  const silent = status !== 0 && failed.length === before;
  if (silent) failed.push("vitest itself (errors outside of tests, see above)");
}

function finish() {
  for (const name of skipped) console.log(`skipped: ${name}`);
  for (const name of unsteady) console.log(`passed at another try only: ${name}`);
  for (const name of failed) console.log(`failed: ${name}`);
  console.log(`${passed.length} passed, ${failed.length} failed, ${skipped.length} skipped`);
  process.exitCode = failed.length === 0 ? 0 : 1;
}

/** Installs what is missing where we may; elsewhere says what is missing and what that skips. */
function installParts() {
  const missing = () => PARTS.filter(({ program }) => !isInstalled(program));
  if (missing().length > 0 && process.getuid?.() === 0 && isInstalled("apt-get")) {
    const packages = [...new Set(missing().map((part) => part.package))];
    console.log(`installing Debian packages: ${packages.join(" ")}`);
    withoutDaemons(() => {
      apt(["update"]);
      apt(["install", "--yes", "--no-install-recommends", ...packages]);
    });
  }
  for (const part of missing()) {
    console.log(`${part.program} is not installed, so these tests are skipped: ${part.for}`);
    console.log(`  (on Debian: apt-get install ${part.package})`);
  }
}

function apt(args) {
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const { status, stdout, stderr } = spawnSync(
    "apt-get",
    ["-q", "-o", "DPkg::Lock::Timeout=120", ...args],
    options({ stdio: "pipe", encoding: "utf8", env }),
  );
  if (status !== 0) console.log(`${stdout}${stderr}\napt-get ${args[0]} failed`);
}

/** Debian starts a daemon when it installs it; tests start their own, on their own ports. */
function withoutDaemons(run) {
  if (existsSync(POLICY)) return run();
  writeFileSync(POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  const remove = () => rmSync(POLICY, { force: true });
  process.on("exit", remove);
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));
  try {
    run();
  } finally {
    remove();
  }
}

function isInstalled(program) {
  return PATH.split(delimiter).some((folder) => folder !== "" && existsSync(join(folder, program)));
}

function options({ env = {}, ...rest }) {
  return { cwd: ROOT, ...rest, env: { ...process.env, ...env, PATH } };
}

function firstLine(text) {
  return (text ?? "").split("\n", 1)[0];
}

main();
