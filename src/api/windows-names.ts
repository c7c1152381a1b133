/** Names that Windows does not keep, or takes for something else. Source: Microsoft, "Naming Files, Paths, and Namespaces". */

/** Device names of Windows, with or without an extension; the digits include superscript one to three. */
const RESERVED_ON_WINDOWS =
  /^(?:con|prn|aux|nul|conin\$|conout\$|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])\s*(?:\..*)?$/i;

/** Separators, what Windows forbids, drive and stream colons, control characters. */
const FORBIDDEN_CHARACTER = /[\\/:*?"<>|\u0000-\u001f\u007f]/;

/** What is wrong with the name of a file on Windows; undefined when nothing is. */
export function faultOnWindows(name: string): string | undefined {
  if (FORBIDDEN_CHARACTER.test(name)) return 'holds a separator, a control character or one of :*?"<>|';
  if (/[. ]$/.test(name)) return "ends in a dot or a space, which Windows drops";
  if (RESERVED_ON_WINDOWS.test(name)) return "is the name of a Windows device";
  return undefined;
}
