/**
 * Where a disk is full, what is written beside a log, a copy or an image, may have what the log has reserved ahead: up to
 * 64 MiB, which its writer asks for again when it needs them.
 */

import type { MakeRoom } from "../../log/reservation.ts";
import type { Engine } from "../engine.ts";

/** What gives the log's reserve back, under the writer's lock. */
export function roomMaker(engine: Engine): MakeRoom {
  const { core } = engine;
  return () => !core.isReadOnly && engine.exclusivelyInMemory(() => core.tail.giveBack());
}
