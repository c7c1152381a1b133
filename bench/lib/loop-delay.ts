/** How late the event loop is: a timer of 1 ms that notes by how much it was missed. */

export class LoopDelay {
  readonly samplesMs: number[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  start(): void {
    const due = performance.now() + 1;
    this.#timer = setTimeout(() => {
      this.samplesMs.push(Math.max(0, performance.now() - due));
      this.start();
    }, 1);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
