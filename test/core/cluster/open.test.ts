import { describe, expect, test } from "vitest";
import { parseStateUrl, stateProblem } from "../../../core/cluster/open.ts";

describe("where the state is", () => {
  test.each([
    ["sqlite", { engine: "sqlite" }],
    [
      "etcd://h1:2379,h2:4001/shop/one",
      { engine: "etcd", endpoints: ["h1:2379", "h2:4001"], prefix: "/shop/one/", isTls: false },
    ],
    [
      "etcds://etcd.example",
      { engine: "etcd", endpoints: ["etcd.example:2379"], prefix: "/memward/", isTls: true },
    ],
    [
      "etcd://[::1]:2379,10.0.0.1//a//",
      { engine: "etcd", endpoints: ["[::1]:2379", "10.0.0.1:2379"], prefix: "/a/", isTls: false },
    ],
  ])("%s", (url, place) => {
    expect(parseStateUrl(url)).toEqual(place);
  });

  test.each([
    ["", /must be/],
    ["SQLITE", /must be/],
    ["postgres://h", /must be/],
    ["etcd:h1", /must be/],
    ["etcd://", /not HOST:PORT/],
    ["etcd://h1:0", /not HOST:PORT/],
    ["etcd://h1,", /not HOST:PORT/],
    ["etcd://h1:2379,h2:99999", /"h2:99999"/],
    ["etcd://user:password@h1:2379", /login/],
    ["etcd://h1/with blank", /prefix/],
    [`etcd://${Array(17).fill("h").join(",")}`, /16/],
  ])("%s is refused", (url, sentence) => {
    expect(parseStateUrl(url)).toEqual(expect.stringMatching(sentence));
    expect(parseStateUrl(url)).not.toContain("password");
  });
});

describe("options that belong together", () => {
  test.each([
    ["etcd://h", { certFile: "c" }, /keyFile/],
    ["etcd://h", { username: "u" }, /passwordFile/],
    ["etcds://10.0.0.1", {}, /serverName/],
    ["etcd://10.0.0.1", { caFile: "ca" }, /serverName/],
  ])("%s with %o is half of something", (url, etcd, sentence) => {
    expect(stateProblem(url, etcd)).toMatch(sentence);
  });

  test.each([
    ["sqlite", {}],
    ["etcd://10.0.0.1", {}],
    ["etcds://h", { certFile: "c", keyFile: "k", username: "u", passwordFile: "p" }],
    ["etcds://10.0.0.1", { serverName: "etcd" }],
  ])("%s with %o is fine", (url, etcd) => {
    expect(stateProblem(url, etcd)).toBeUndefined();
  });
});
