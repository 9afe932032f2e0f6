/**
 * How `npm test` runs the tests: each file in a process of its own, as many as there are cores. All
 * run on the io layer that serves by itself: the native one, where its addon was built. Then those
 * about bytes, pressure and endings run again on `net`, which serves everybody else.
 */
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { addonPath } from "./core/io/native/build.mjs";

const AGAIN_ON_NET = [
  "test/proxy/client/{order,pressure,stopping}.test.ts",
  "test/proxy/routing/{link,linkLoad,linkTime,gather,invalidations}.test.ts",
  "test/core/io/reset.test.ts",
  "test/backend/embedded/server.test.ts",
  "test/e2e/{backpressure,bad-input,drain-on-sigterm}.test.ts",
];

const all: TestProjectInlineConfiguration = {
  extends: true,
  test: { name: "auto", include: ["test/**/*.test.ts"] },
};
const net: TestProjectInlineConfiguration = {
  extends: true,
  test: { name: "net", include: AGAIN_ON_NET, env: { MEMWARD_IO: "net" } },
};

export default defineConfig({
  test: {
    pool: "forks",
    // Most tests wait for processes and clocks more than they compute: no core is left out.
    maxWorkers: availableParallelism(),
    execArgv: ["--disable-warning=ExperimentalWarning"],
    // Whole instances under floods share two cores here: another try tells starvation from a fault.
    // The closing lines name those that needed it.
    retry: 2,
    // Generous: a limit for hanging tests, not a promise about speed.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    projects: existsSync(addonPath()) ? [all, net] : [all],
  },
});
