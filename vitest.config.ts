/** How `npm test` runs the tests: each file in a process of its own, as many as there are cores. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    execArgv: ["--disable-warning=ExperimentalWarning"],
    // Generous: a limit for hanging tests, not a promise about speed.
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
