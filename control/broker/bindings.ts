/**
 * Service bindings: each is a credential of its own. Its username is on record, its password comes
 * from that and the broker's key, so that a repeated request gets the same answer although only a
 * digest is kept. Binding touches the record of the instance, so that none is made for an instance
 * that is being deleted.
 */
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { digestOf, newCredential, verify } from "../../core/cluster/credentials.ts";
import type { Change, Entry } from "../../core/cluster/state.ts";
import { parseAddress } from "../../core/runtime/config.ts";
import { whenApplied } from "../operations/applied.ts";
import { auditChange } from "../operations/change.ts";
import { serversOf } from "../operations/credential-shapes.ts";
import { createCredential, deleteCredential, type NewLogin } from "../operations/credentials.ts";
import {
  type Answer,
  type Asker,
  answer,
  type Binding,
  type Broker,
  checked,
  contextOf,
  deletionQuery,
  failure,
  findInstance,
  type Instance,
  identifier,
  type Located,
  malformed,
  noInstance,
  persistently,
  refused,
  unknownService,
} from "./broker.ts";
import { type BindingParameters, bindingParameters } from "./catalog.ts";
import { bindingPassword } from "./key.ts";

const bindBody = z.looseObject({
  service_id: identifier,
  plan_id: identifier,
  app_guid: identifier.optional(),
  bind_resource: z.looseObject({ app_guid: identifier.optional() }).optional(),
  parameters: bindingParameters.optional(),
  /** Since 2.17: a new credential that is otherwise like this one. */
  predecessor_binding_id: identifier.optional(),
});
type BindRequest = z.output<typeof bindBody>;
const PAGE_LENGTH = 100;
const LABEL_LENGTH_MAX = 200;
const RIGHTS_DEFAULT = ["read", "write", "flush"] as const;

/** Names a binding within its instance. */
export interface BindingName {
  readonly instance: string;
  readonly binding: string;
}

const idOf = ({ instance, binding }: BindingName): string => `${instance}/${binding}`;

export async function bind(
  broker: Broker,
  asker: Asker,
  name: BindingName,
  body: unknown,
): Promise<Answer> {
  const { parts } = broker;
  const request = checked(bindBody, body);
  if (!request.ok) return request.answer;
  return persistently(async () => {
    const instance = await findInstance(parts, name.instance);
    if (instance.record === undefined || !instance.isLiving) return noInstance(name.instance);
    const wrong = wrongIds(request.input, instance.record);
    if (wrong !== undefined) return wrong;
    const { record, credential } = await findBinding(broker, name, instance.record);
    const wanted = await parametersOf(broker, request.input, instance.record);
    if (record !== undefined && credential !== undefined) {
      // Whoever rotates may repeat it when the predecessor is gone already.
      const isSame = wanted === undefined || isDeepStrictEqual(record.value.parameters, wanted);
      if (isSame) return bound(broker, name, { status: 200, record, credential });
      return failure(409, `the service binding ${name.binding} exists with other parameters`);
    }
    if (wanted === undefined) {
      const message = "this instance has no such binding";
      return malformed([{ path: "predecessor_binding_id", message }]);
    }
    return create(broker, asker, {
      name,
      request: request.input,
      parameters: wanted,
      instance: instance.record,
      stale: record,
    });
  });
}

interface Wish {
  readonly name: BindingName;
  readonly request: BindRequest;
  readonly parameters: BindingParameters;
  readonly instance: Instance;
  readonly stale: Binding | undefined;
}

/** Undefined when somebody was faster. */
async function create(
  broker: Broker,
  asker: Asker,
  { name, request, parameters, instance, stale }: Wish,
): Promise<Answer | undefined> {
  const { parts, key } = broker;
  const login = loginOf(key, name, newCredential(parts.secureBytes).username);
  const id = idOf(name);
  const value: Binding["value"] = {
    instance: name.instance,
    username: login.username,
    service: request.service_id,
    plan: request.plan_id,
    parameters: z.json().parse(parameters),
    createdAtMs: parts.clock.unixMs(),
  };
  const records = (): Change[] => [
    { kind: "serviceBinding", id, value, expected: stale?.revision ?? 0 },
    {
      kind: "serviceInstance",
      id: name.instance,
      value: instance.value,
      expected: instance.revision,
    },
  ];
  const context = contextOf(broker, asker, { action: "binding.create", subject: id, records });
  const input = {
    ...parameters,
    rights: parameters.rights ?? [...RIGHTS_DEFAULT],
    label: parameters.label ?? labelFor(name, request),
  };
  const outcome = await createCredential(parts, context, instance.value.cache, input, login);
  if (!outcome.ok) {
    return outcome.problem.kind === "conflict" ? undefined : refused(outcome.problem);
  }
  // A client may log in with what we answer.
  await whenApplied(parts, { revision: outcome.revision, cacheId: instance.value.cache });
  return answer(201, bodyOf(broker, login));
}

export async function fetchBinding(broker: Broker, name: BindingName): Promise<Answer> {
  const instance = await findInstance(broker.parts, name.instance);
  const living = instance.isLiving ? instance.record : undefined;
  const { record, credential } = await findBinding(broker, name, living);
  if (record !== undefined && credential !== undefined) {
    return bound(broker, name, { status: 200, record, credential, isFetched: true });
  }
  return failure(404, `there is no service binding ${name.binding}`);
}

export async function unbind(
  broker: Broker,
  asker: Asker,
  name: BindingName,
  query: unknown,
): Promise<Answer> {
  const request = checked(deletionQuery, query);
  if (!request.ok) return request.answer;
  return persistently(async () => {
    const instance = await findInstance(broker.parts, name.instance);
    const found = await findBinding(broker, name, instance.record);
    if (found.record === undefined) return answer(410);
    if (request.input.service_id !== broker.catalog.serviceId) return unknownService();
    return remove(broker, asker, name, { ...found, waits: true });
  });
}

/** Deletes all bindings of an instance; undefined when it is done. */
export async function deleteBindings(
  broker: Broker,
  asker: Asker,
  instance: string,
): Promise<Answer | undefined> {
  const { parts } = broker;
  for (;;) {
    const prefix = `${instance}/`;
    const { entries } = await parts.state.list("serviceBinding", { prefix, limit: PAGE_LENGTH });
    if (entries.length === 0) return undefined;
    for (const { id } of entries) {
      const name = { instance, binding: id.slice(prefix.length) };
      const done = await persistently(async () => {
        const found = await findBinding(broker, name, (await findInstance(parts, instance)).record);
        return remove(broker, asker, name, { ...found, waits: false });
      });
      if (done.status !== 200 && done.status !== 410) return done;
    }
  }
}

/** Undefined when somebody was faster. */
async function remove(
  broker: Broker,
  asker: Asker,
  name: BindingName,
  { record, credential, waits }: Found & { readonly waits: boolean },
): Promise<Answer | undefined> {
  const { parts } = broker;
  if (record === undefined) return answer(410);
  const id = idOf(name);
  const removal: Change = { kind: "serviceBinding", id, value: null, expected: record.revision };
  if (credential === undefined) {
    const audit = { action: "binding.forget", cache: "", subject: id, before: null, after: null };
    const commit = await parts.state.commit([removal, auditChange(parts, asker, audit)]);
    return commit.ok ? answer(410) : undefined;
  }
  const context = contextOf(broker, asker, {
    action: "binding.delete",
    subject: id,
    records: () => [removal],
  });
  const subject = { cache: credential.value.cache, username: credential.id };
  const outcome = await deleteCredential(parts, context, subject, { force: true });
  if (outcome.ok) {
    if (waits) await whenApplied(parts, { revision: outcome.revision });
    return answer(200);
  }
  const { kind } = outcome.problem;
  return kind === "conflict" || kind === "notFound" ? undefined : refused(outcome.problem);
}

type Found = Located<Binding> & { readonly credential: Entry<"credential"> | undefined };

/** With its credential, if the instance has it still. */
async function findBinding(
  { parts }: Broker,
  name: BindingName,
  instance: Instance | undefined,
): Promise<Found> {
  const record = await parts.state.get("serviceBinding", idOf(name));
  if (record === undefined) return { record, isLiving: false, credential: undefined };
  const credential = await parts.state.get("credential", record.value.username);
  const isLiving = credential !== undefined && credential.value.cache === instance?.value.cache;
  return { record, isLiving, credential: isLiving ? credential : undefined };
}

/** Undefined when they are to be those of a binding that is not there. */
async function parametersOf(
  broker: Broker,
  { parameters = {}, predecessor_binding_id }: BindRequest,
  instance: Instance,
): Promise<BindingParameters | undefined> {
  if (predecessor_binding_id === undefined) return parameters;
  const name = { instance: instance.id, binding: predecessor_binding_id };
  const { record, isLiving } = await findBinding(broker, name, instance);
  return isLiving ? bindingParameters.parse(record?.value.parameters) : undefined;
}

function wrongIds(request: BindRequest, { value }: Instance): Answer | undefined {
  const problems = [
    ...(request.service_id === value.service
      ? []
      : [{ path: "service_id", message: "is not the service of this instance" }]),
    ...(request.plan_id === value.plan
      ? []
      : [{ path: "plan_id", message: "is not the plan of this instance" }]),
  ];
  return problems.length === 0 ? undefined : malformed(problems);
}

function bound(
  broker: Broker,
  name: BindingName,
  it: { status: number; record: Binding; credential: Entry<"credential">; isFetched?: boolean },
): Answer {
  const login = loginOf(broker.key, name, it.record.value.username);
  if (!verify(it.credential.value.digest, Buffer.from(login.password))) {
    const message = "the broker key is not the one that this binding was made with; bind anew";
    return failure(500, message);
  }
  const more = it.isFetched === true ? { parameters: it.record.value.parameters } : {};
  return answer(it.status, { ...bodyOf(broker, login), ...more });
}

function loginOf(key: Uint8Array, name: BindingName, username: string): NewLogin {
  const password = bindingPassword(key, { ...name, username });
  return { username, password, digest: digestOf(password) };
}

/** The names that MemCachier's service has in VCAP_SERVICES, and those of its variables. */
function bodyOf({ parts }: Broker, { username, password }: NewLogin) {
  const servers = serversOf(parts);
  const endpoints = servers.flatMap((server) => {
    const at = parseAddress(server);
    return at === undefined ? [] : [{ host: at.host, ports: [`${at.port}`], protocol: "tcp" }];
  });
  return {
    credentials: {
      servers: servers.join(","),
      username,
      password,
      MEMCACHIER_SERVERS: servers.join(","),
      MEMCACHIER_USERNAME: username,
      MEMCACHIER_PASSWORD: password,
    },
    endpoints,
  };
}

function labelFor({ binding }: BindingName, { app_guid, bind_resource }: BindRequest): string {
  const app = bind_resource?.app_guid ?? app_guid;
  const text = app === undefined ? `binding ${binding}` : `app ${app}`;
  return text.replaceAll(/\p{Cc}/gu, "").slice(0, LABEL_LENGTH_MAX);
}
