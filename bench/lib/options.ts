/** Command-line options of the benchmarks: `--name value`, `--name=value`, or `--name` alone for true. */

export type Options = Readonly<Record<string, string>>;

/** Reads the options out of the arguments; a bare `--name` becomes "true". */
export function parseOptions(args: readonly string[]): Options {
  const options: Record<string, string> = {};
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? "";
    if (!arg.startsWith("--")) throw new Error(`unexpected argument "${arg}": options look like --records 1000000`);
    const equals = arg.indexOf("=");
    const next = args[index + 1];
    if (equals > 0) options[arg.slice(2, equals)] = arg.slice(equals + 1);
    else if (next !== undefined && !next.startsWith("--")) {
      options[arg.slice(2)] = next;
      index++;
    } else options[arg.slice(2)] = "true";
  }
  return options;
}

/** Arguments of the programs that take a count and then words: `ordered.ts 500k batches`. */
export function countAndWords(
  args: readonly string[],
  known: readonly string[],
): { readonly count: number; readonly words: readonly string[] } {
  const [count = "1m", ...words] = args;
  const unknown = words.filter((word) => !known.includes(word));
  if (unknown.length > 0)
    throw new Error(`no "${unknown.join(" ")}": after the number of records come ${known.join(", ")}`);
  return { count: numberOption({ records: count }, "records"), words };
}

/** A whole number; `1m`, `64k` and `1_000` are understood. */
export function numberOption(options: Options, name: string): number {
  const text = options[name];
  if (text === undefined) throw new Error(`option --${name} has no value and no default`);
  const match = /^([0-9][0-9_]*(?:\.[0-9]+)?)([kmg]?)$/i.exec(text);
  if (match === null) throw new Error(`--${name} ${text} is not a number`);
  const unit = { "": 1, k: 1e3, m: 1e6, g: 1e9 }[(match[2] ?? "").toLowerCase()] ?? 1;
  return Math.round(Number((match[1] ?? "").replaceAll("_", "")) * unit);
}

/** A comma-separated list of whole numbers. */
export function numbersOption(options: Options, name: string): number[] {
  return listOption(options, name).map((part) => numberOption({ part }, "part"));
}

/** A comma-separated list; empty when not given. */
export function listOption(options: Options, name: string): string[] {
  return (options[name] ?? "").split(",").filter((part) => part !== "");
}
