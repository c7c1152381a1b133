/** The documents that a reader of the package meets. */

import { readdirSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");

/** Path and title of every Markdown file of the root and of `docs`. */
export function documents(): [path: string, title: string][] {
  const names = ["", "docs/"].flatMap((folder) => readdirSync(join(root, folder)).map((name) => folder + name));
  return names.filter((name) => name.endsWith(".md")).map((name) => [join(root, name), name]);
}
