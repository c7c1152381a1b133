/** Reading the project's Markdown: fenced blocks and tables, no more of the language than the documents use. */

export interface Block {
  readonly language: string;
  /** What stands behind the language on the opening fence. */
  readonly rest: string;
  readonly text: string;
  /** The line of the opening fence, from 1. */
  readonly line: number;
}

/** The fenced blocks of a document, in order. */
export function blocksOf(document: string): Block[] {
  const blocks: Block[] = [];
  let open: { readonly fence: string; readonly line: number; readonly lines: string[] } | undefined;
  for (const [index, line] of document.split("\n").entries()) {
    if (!line.startsWith("```")) open?.lines.push(line);
    else if (open === undefined) open = { fence: line.slice(3).trim(), line: index + 1, lines: [] };
    else {
      const [language = "", ...rest] = open.fence.split(" ");
      blocks.push({ language, rest: rest.join(" "), text: open.lines.join("\n"), line: open.line });
      open = undefined;
    }
  }
  if (open !== undefined) throw new Error(`the block of line ${open.line} has no end`);
  return blocks;
}

/** The name of a block that is a file for others of its document. */
export function nameOf(block: Block): string | undefined {
  return /^name=(\S+)$/.exec(block.rest)?.[1];
}

/** The rows of the first table whose first column has this title, cell by cell. */
export function rowsUnder(document: string, title: string): string[][] {
  const lines = document.split("\n");
  const head = lines.findIndex((line) => line.startsWith(`| ${title} |`));
  if (head < 0) throw new Error(`there is no table whose first column is "${title}"`);
  const rows: string[][] = [];
  for (const line of lines.slice(head + 2)) {
    if (!line.startsWith("|")) break;
    const cells = line.split("|").slice(1, -1);
    rows.push(cells.map((cell) => cell.trim()));
  }
  return rows;
}
