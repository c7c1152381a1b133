/**
 * Verify: the whole log and the whole index, as of the call, while reads and writes go on.
 *
 * Memory: one scan buffer, one copy of a shard, a few numbers a namespace, and the problems.
 */

import type { ProgressOptions, VerifyReport } from "../../api/types.ts";
import { isPageSound } from "../../crypto/key-area.ts";
import { EmdbError, assert } from "../../errors.ts";
import { must } from "../../ffi/io-error.ts";
import { HEADER_PAGE_BYTES } from "../../limits.ts";
import { KEY_AREA_AT, decodeHeader, saltsOf } from "../../log/header.ts";
import type { ScanSource } from "../../log/scanner.ts";
import type { Opened } from "../assemble.ts";
import { STATE } from "../threads/control.ts";
import type { Core } from "../core.ts";
import { Pace } from "../progress.ts";
import { heldSteps, inSlices } from "../threads/held-steps.ts";
import { ForwardKeys } from "../sealed/forward-keys.ts";
import { ScanOpener } from "../sealed/scan-opener.ts";
import type { Vault } from "../sealed/vault.ts";
import { IndexCheck } from "./verify-index.ts";
import { LogCheck } from "./verify-log.ts";
import { Problems, takeMoment, type Moment } from "./verify-moment.ts";
import { OrderedCheck } from "./verify-ordered.ts";
import { MemoryReads, PatientReads } from "./verify-source.ts";

/** Reads and checks everything; nothing is changed, whatever is found. */
export async function verifyDatabase(opened: Opened, options: ProgressOptions): Promise<VerifyReport> {
  const { work, relocation, engine } = opened;
  engine.core.enter();
  if (engine.isReadOnly) return verifyNow(opened, options);
  // The file and the index are looked at together: no compaction may come in between.
  const turn = await work.take(options);
  try {
    if (engine.core.control.flags[STATE] === 0) await relocation.finishInSlices();
    return await verifyNow(opened, options);
  } finally {
    work.give(turn);
  }
}

async function verifyNow(opened: Opened, options: ProgressOptions): Promise<VerifyReport> {
  let moment: Moment | undefined;
  try {
    await opened.engine.core.inTurns(() => (moment = takeMoment(opened)));
    assert(moment !== undefined, "it was taken");
    // Closed right behind that, it has no keys any more.
    opened.engine.core.enter();
    return await verifyMoment(opened, moment, options);
  } finally {
    moment?.release();
  }
}

async function verifyMoment(opened: Opened, moment: Moment, options: ProgressOptions): Promise<VerifyReport> {
  const { core } = opened.engine;
  const problems = new Problems();
  const reads = core.file === undefined ? new MemoryReads(core.log, moment.base) : new PatientReads(core.system);
  const source: ScanSource = {
    system: reads,
    file: core.file?.handle ?? 0,
    path: core.file?.path ?? "",
    salts: core.salts,
    end: moment.end,
  };
  const keys = core.vault === undefined ? undefined : keysOf(core, core.vault);
  try {
    return await verifySource(opened, { moment, options, problems, reads, source, keys });
  } finally {
    keys?.wipe();
  }
}

function keysOf(core: Core, vault: Vault): ForwardKeys {
  return new ForwardKeys({ ...core.identity, cipher: vault.cipher, dataKey: vault.keyCopy() });
}

interface Verifying {
  readonly moment: Moment;
  readonly options: ProgressOptions;
  readonly problems: Problems;
  readonly reads: MemoryReads | PatientReads;
  readonly source: ScanSource;
  /** Of an encrypted log. */
  readonly keys: ForwardKeys | undefined;
}

async function verifySource(opened: Opened, parts: Verifying): Promise<VerifyReport> {
  const { core, spaces } = opened.engine;
  const { moment, options, problems, reads, keys } = parts;
  const isLost = (): boolean => problems.hasLost;
  const opener = keys === undefined ? undefined : new ScanOpener(keys, { generation: core.generation, isLost });
  const source = { ...parts.source, opener };
  const pace = new Pace(core, options, moment.end + core.heap.bytes);
  await pace.begin();
  core.enter();
  if (core.file !== undefined) checkHeader(core, source, problems);
  const log = new LogCheck(core, spaces, { moment, problems, source, keys });
  try {
    while (log.step()) {
      if (!pace.isDue(log.lsn)) continue;
      await pace.pause(log.lsn);
      core.enter();
    }
  } finally {
    log.release();
  }
  const unreadable = reads instanceof PatientReads ? reads.unreadable : [];
  for (const { offset, bytes } of unreadable) problems.add(offset, `the disk cannot read ${bytes} bytes here (EIO)`);
  const isReadable = unreadable.length === 0 && holdsAll(core, moment);
  const index = new IndexCheck(core, spaces, { moment, problems, log, isReadable });
  const inOrder = { done: () => moment.end + index.bytes, check: () => core.enter() };
  await inSlices(core, pace.slices({ ...inOrder, step: () => heldSteps(core, () => index.step()) }));
  core.enter();
  if (core.ordering !== undefined && isReadable && !problems.hasLost) {
    const ordered = new OrderedCheck(core, spaces, { ordering: core.ordering, moment, problems });
    await inSlices(core, pace.slices({ ...inOrder, step: () => heldSteps(core, () => ordered.step()) }));
  }
  pace.finish();
  return problems.report({ records: log.records, bytes: moment.end });
}

/** One slot at least is what the data key signed, together with the page. */
function checkKeyArea(vault: Vault, page: Uint8Array, problems: Problems): void {
  const { cipher, dataKey } = vault;
  const keyPage = { sector: page.subarray(0, KEY_AREA_AT), keyArea: page.subarray(KEY_AREA_AT), cipher };
  try {
    if (isPageSound(keyPage, dataKey)) return;
    problems.add(KEY_AREA_AT, "no key slot belongs to the header page as it is");
  } catch (error) {
    if (!(error instanceof EmdbError)) throw error;
    problems.add(error.offset ?? KEY_AREA_AT, error.message);
  }
}

/** Whether the file is as long as the log: what is missing must not be touched through a mapping. */
function holdsAll(core: Core, moment: Moment): boolean {
  if (core.file === undefined) return true;
  return must(core.system.size(core.file.handle), { syscall: "fstat", path: core.file.path }) >= moment.end;
}

/** The header page must say what it said when the database was opened. */
function checkHeader(core: Core, source: ScanSource, problems: Problems): void {
  const page = new Uint8Array(HEADER_PAGE_BYTES);
  const span = { position: 0, bytes: page.length };
  const count = must(source.system.read(source.file, page, span), { syscall: "pread", path: source.path });
  const verdict = decodeHeader(page.subarray(0, count));
  if (verdict.kind !== "sound") {
    problems.add(0, `the header page is ${verdict.kind === "damaged" ? "damaged" : "not this database's"}`);
    return;
  }
  const salts = saltsOf(verdict.header);
  if (salts.header !== core.salts.header || salts.body !== core.salts.body) {
    problems.add(0, "the header page is another database's, or of another generation");
  }
  const missing = verdict.header.madeEnd - source.end;
  if (missing > 0) problems.add(source.end, `the file was ${missing} bytes longer when it was made`);
  if (core.vault !== undefined) {
    checkKeyArea(core.vault, page, problems);
    return;
  }
  const stray = page.subarray(KEY_AREA_AT).findIndex((byte) => byte !== 0);
  if (stray >= 0) problems.add(KEY_AREA_AT + stray, "the key area of a database that is not encrypted is not empty");
}
