/** What we use of memjs, which brings no types. */
declare module "memjs" {
  export interface ServerOptions {
    timeout?: number;
    conntimeout?: number;
    keepAlive?: boolean;
  }
  export class Server {
    constructor(
      host: string,
      port: number,
      username: string,
      password: string,
      options: ServerOptions,
    );
  }
  export class Client {
    constructor(
      servers: Server[],
      options: { retries: number; logger: { log(...parts: unknown[]): void } },
    );
    set(key: string, value: string, options: { expires: number }): Promise<boolean>;
    get(key: string): Promise<{ value: Buffer | null }>;
    delete(key: string): Promise<boolean>;
    close(): void;
  }
}
