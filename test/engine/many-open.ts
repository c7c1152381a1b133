/** A process that holds a dozen databases open, in files and in memory: `many-open <folder>`. */

import { Emdb } from "../../src/index.ts";

const folder = process.argv[2] ?? "";
const databases = Array.from({ length: 12 }, (_, index) =>
  index % 2 === 0 ? Emdb.openInMemory({ rangeScans: true }) : Emdb.open(`${folder}/${index}.emdb`),
);
for (const db of databases)
  db.insertMany(Array.from({ length: 3000 }, (_, index) => [`key ${index}`, "v".repeat(400)] as const));
const counts = new Set(databases.map((db) => [...db.iter()].length));
for (const db of databases) db.closeSync();
console.log(`${databases.length} databases with ${[...counts].join(" or ")} records each`);
