// Figures about the plugin's own process: processor time and resident memory.
//
// Only of this process, not of what it starts: the host samples the whole launch itself.

/** What a process uses. */
export interface Usage {
  /** Processor time since the last sample, in percent of one core. */
  cpu: number;
  /** Resident memory in bytes. */
  resident: number;
}

/** Remembers the last sample, since processor time is a rate. */
export class OwnProcess {
  #at = performance.now();
  #used = process.cpuUsage();

  /** The usage since the last sample. */
  sample(): Usage {
    const now = performance.now();
    const used = process.cpuUsage();
    const elapsedMs = now - this.#at;
    const usedMs = (used.user + used.system - this.#used.user - this.#used.system) / 1_000;
    this.#at = now;
    this.#used = used;
    return { cpu: elapsedMs > 0 ? (100 * usedMs) / elapsedMs : 0, resident: process.memoryUsage.rss() };
  }
}
