/** Tells "this revision does not have that yet" from a failure: the first skips a row, the second fails the run. */

export function isUnsupported(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? String(error.code) : "";
  return (
    code === "EMDB_UNSUPPORTED" ||
    /EMDB_UNSUPPORTED|\bis not there\b|\bnot (yet )?(implemented|supported)\b/i.test(error.message)
  );
}

/** What `work` gives, or undefined with a line on stderr when the subject cannot do it. */
export async function ifSupported<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!isUnsupported(error)) throw error;
    process.stderr.write(`${what}: skipped, ${String(error)}\n`);
    return undefined;
  }
}
