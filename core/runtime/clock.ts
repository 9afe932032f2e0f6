/**
 * Time comes in through this door: nothing else in the sources reads a clock or sets a timer.
 * `nowMs` is for measuring and deadlines (it never steps back); `unixMs` is for moments that
 * other processes read. Whatever decides by time takes a `Clock`, so a test can move it by hand.
 */

export interface Clock {
  /** Monotonic milliseconds, with fractions, since some moment of this process. */
  nowMs(): number;
  /** Whole milliseconds since 1970; the machine's owner may set it forward or back. */
  unixMs(): number;
}

export const clock: Clock = {
  nowMs: () => performance.now(),
  unixMs: () => Date.now(),
};

export interface Timer {
  stop(): void;
}

/** Runs again and again. It does not keep the process alive: only sockets and children do. */
export function every(intervalMs: number, run: () => void): Timer {
  const timer = setInterval(run, intervalMs);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}

/** Resolves after `delayMs`; somebody awaits it, so it keeps the process alive. */
export function sleep(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, delayMs);
  });
}

/**
 * Runs `work` when called, but what is asked for within `intervalMs` after that once, at its end;
 * what is urgent at once.
 */
export function paced(intervalMs: number, work: () => void): (isUrgent?: boolean) => void {
  let resting: NodeJS.Timeout | null = null;
  let isAskedFor = false;
  const run = (isUrgent = false): void => {
    isAskedFor = resting !== null && !isUrgent;
    if (isAskedFor) return;
    if (resting !== null) clearTimeout(resting);
    resting = setTimeout(() => {
      resting = null;
      if (isAskedFor) run();
    }, intervalMs).unref();
    work();
  };
  return run;
}
