/**
 * Counts one finished run of `bun test`: `bun scripts/count.ts <label> <file with its output> <its exit code>`.
 *
 * Appends to EMDB_RESULTS as `suite.ts` does.
 */

import { appendFileSync, readFileSync } from "node:fs";
import { countsOf } from "./suite.ts";

const [label = "", path = "", exitCode = ""] = process.argv.slice(2);
const { passed, failed, skipped } = countsOf(readFileSync(path, "utf8"), Number(exitCode));
console.log(`${label}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
const results = process.env["EMDB_RESULTS"];
if (results !== undefined) appendFileSync(results, `${passed} ${failed} ${label}\n`);
