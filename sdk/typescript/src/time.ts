// Waiting, with an end.
//
// The invariant: no timer outlives what it was set for.

/** The longest time that a timer takes, in milliseconds: beyond it, it would go off at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A time that a timer takes, in milliseconds. */
export function longest(ms: number): number {
  return Math.min(ms, LONGEST_TIMER_MS);
}

/** Resolves after `ms` milliseconds, or when it is to stop. */
export function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stop.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, longest(ms));
    stop.addEventListener("abort", done, { once: true });
    if (stop.aborted) {
      done();
    }
  });
}

/** Whether `work` ends within `ms` milliseconds; how it ends is of no matter. */
export function endsWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), longest(ms));
    const ended = (): void => {
      clearTimeout(timer);
      resolve(true);
    };
    work.then(ended, ended);
  });
}
