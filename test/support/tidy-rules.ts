/**
 * The house rules as pure functions: files in (path from the repository's root, text), complaints out.
 *
 * `test/tidy.test.ts` runs them over the repository, and over small made-up files to see each of them complain.
 */

import ts from "typescript";

export interface SourceFile {
  /** From the repository's root, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** What a room may import, itself apart (docs/design.md): rooms never look back, siblings never meet. */
export const importTable: Readonly<Record<string, readonly string[]>> = {
  index: ["api", "codec", "errors", "limits"],
  api: ["engine", "codec", "errors", "limits"],
  engine: ["log", "keydir", "ordered", "crypto", "codec", "ffi", "errors", "limits", "version"],
  log: ["codec", "ffi", "errors", "limits"],
  keydir: ["codec", "ffi", "errors", "limits"],
  ordered: ["codec", "ffi", "errors", "limits"],
  crypto: ["codec", "ffi", "errors", "limits"],
  codec: ["errors", "limits"],
  ffi: ["errors", "limits"],
  limits: ["errors"],
  errors: [],
  version: [],
};

/** Types only: options and errors are described where the user holds them. */
const typeImportsAllowed = new Set(["src/errors.ts > src/api/types.ts", "src/engine > src/api/types.ts"]);

/** One file of a far room: where the platform keeps its data is asked at the door, before there is an engine. */
const fileImportsAllowed = new Set(["src/api > src/ffi/environment.ts"]);

/**
 * The folders of the engine, and what of each other they may import besides types. The files beside them, which put
 * the engine together, know all of it and are open to all.
 */
export const engineTable: Readonly<Record<string, readonly string[]>> = {
  background: ["copy", "files", "hint", "read", "threads"],
  copy: ["files", "hint", "open", "read", "sealed", "threads", "verify"],
  files: ["threads"],
  hint: ["files", "threads"],
  open: ["files", "hint", "ordering", "sealed", "threads", "write"],
  ordering: ["read", "sealed", "write"],
  read: ["threads"],
  salvage: ["files", "open", "sealed", "verify"],
  sealed: ["read", "threads"],
  sync: ["threads"],
  threads: [],
  verify: ["sealed", "threads"],
  write: ["copy", "read", "sync", "threads"],
};

/** How an image begins tells a log from it, whatever name it has. */
const engineFilesAllowed = new Set(["src/engine/files > src/engine/hint/hint-format.ts"]);

/** Modules from outside, and the rooms that may import them. Pure path arithmetic is free. */
const outsideTable: Readonly<Record<string, readonly string[]>> = {
  "bun:ffi": ["ffi"],
  "node:fs": ["ffi"],
  "node:os": ["ffi"],
  "node:crypto": ["crypto"],
  "@noble/ciphers": ["crypto"],
  "@noble/hashes": ["crypto"],
  "hash-wasm": ["crypto"],
  "bun:jsc": ["codec"],
  "node:path": ["ffi", "engine", "api"],
};

export const limits = { fileLines: 500, medianLines: 150, functionLines: 70 } as const;

// Joined here so that this file does not say them.
const bannedWords = ["TO_DO", "FIX_ME", "X_XX", "HA_CK", "ha_ck"].map((word) => word.replace("_", ""));
const bannedNames = new Set(["utils", "util", "helpers", "helper", "misc", "common", "stuff"]);

interface Import {
  readonly from: string;
  readonly target: string;
  readonly isTypeOnly: boolean;
  /** The imported names; undefined when all of them are (a namespace, a dynamic import). */
  readonly names: readonly string[] | undefined;
  readonly isExport: boolean;
}

const parsed = new Map<string, { readonly text: string; readonly tree: ts.SourceFile }>();

export function treeOf(file: SourceFile): ts.SourceFile {
  const known = parsed.get(file.path);
  if (known?.text === file.text) return known.tree;
  const tree = ts.createSourceFile(file.path, file.text, ts.ScriptTarget.Latest, true);
  parsed.set(file.path, { text: file.text, tree });
  return tree;
}

export function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node);
  node.forEachChild((child) => walk(child, visit));
}

export const lineOf = (node: ts.Node): number =>
  node.getSourceFile().getLineAndCharacterOfPosition(node.getStart()).line + 1;
const linesOf = (text: string): number => text.replace(/\n$/, "").split("\n").length;

/** `src/log/frame.ts` is in "log", `src/errors.ts` is a room of its own. */
export function roomOf(path: string): string {
  const [, first = "", second] = path.split("/");
  return second === undefined ? first.replace(/\.ts$/, "") : first;
}

function resolveFrom(path: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  const parts = path.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

function importNames(node: ts.ImportDeclaration | ts.ExportDeclaration): readonly string[] | undefined {
  const bindings = ts.isImportDeclaration(node) ? node.importClause?.namedBindings : node.exportClause;
  if (bindings === undefined) return ts.isImportDeclaration(node) ? [] : undefined;
  if (!ts.isNamedImports(bindings) && !ts.isNamedExports(bindings)) return undefined;
  return bindings.elements.map((element) => (element.propertyName ?? element.name).text);
}

function isTypeOnly(node: ts.ImportDeclaration | ts.ExportDeclaration): boolean {
  if (ts.isExportDeclaration(node)) return node.isTypeOnly;
  const bindings = node.importClause?.namedBindings;
  if (node.importClause?.isTypeOnly === true) return true;
  if (bindings === undefined || !ts.isNamedImports(bindings) || bindings.elements.length === 0) return false;
  return bindings.elements.every((element) => element.isTypeOnly);
}

function specifierOf(node: ts.Node): { readonly text: string; readonly isDynamic: boolean } | undefined {
  if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined) {
    return { text: (node.moduleSpecifier as ts.StringLiteral).text, isDynamic: false };
  }
  const isCall = ts.isCallExpression(node);
  if (isCall && (node.expression.kind === ts.SyntaxKind.ImportKeyword || node.expression.getText() === "require")) {
    const [argument] = node.arguments;
    return { text: argument !== undefined && ts.isStringLiteral(argument) ? argument.text : "?", isDynamic: true };
  }
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    return { text: (node.argument.literal as ts.StringLiteral).text, isDynamic: true };
  }
  return undefined;
}

/** Every import of a file: declarations, re-exports, `import()` and `import("x").Type`. */
export function importsOf(file: SourceFile): Import[] {
  const found: Import[] = [];
  walk(treeOf(file), (node) => {
    const specifier = specifierOf(node);
    if (specifier === undefined) return;
    const target = resolveFrom(file.path, specifier.text);
    const isDeclared = ts.isImportDeclaration(node) || ts.isExportDeclaration(node);
    found.push({
      from: file.path,
      target: target === "emdb" ? "src/index.ts" : target,
      isTypeOnly: isDeclared ? isTypeOnly(node) : ts.isImportTypeNode(node),
      names: isDeclared ? importNames(node) : undefined,
      isExport: ts.isExportDeclaration(node),
    });
  });
  return found;
}

/** Of `@noble/hashes/sha2.js` it is `@noble/hashes`. */
function packageOf(target: string): string {
  return target
    .split("/")
    .slice(0, target.startsWith("@") ? 2 : 1)
    .join("/");
}

function isImportAllowed(one: Import): boolean {
  const room = roomOf(one.from);
  if (!one.target.startsWith("src/")) {
    const rooms = outsideTable[one.target] ?? outsideTable[packageOf(one.target)];
    return rooms?.includes(room) ?? false;
  }
  const target = roomOf(one.target);
  if (target === room || (importTable[room]?.includes(target) ?? false)) return true;
  if (fileImportsAllowed.has(`src/${room} > ${one.target}`)) return true;
  if (!one.isTypeOnly) return false;
  return typeImportsAllowed.has(`${one.from} > ${one.target}`) || typeImportsAllowed.has(`src/${room} > ${one.target}`);
}

export function importTableFaults(files: readonly SourceFile[]): string[] {
  const imports = files.filter((file) => file.path.startsWith("src/")).flatMap(importsOf);
  return imports.filter((one) => !isImportAllowed(one)).map((one) => `${one.from} imports ${one.target}`);
}

/** `src/engine/read/lookup.ts` is in the folder "read"; what lies beside the folders is in none. */
function engineFolderOf(path: string): string | undefined {
  const [, room, folder, file] = path.split("/");
  return room === "engine" && file !== undefined ? folder : undefined;
}

function isEngineImportAllowed(one: Import): boolean {
  const folder = engineFolderOf(one.from);
  const target = engineFolderOf(one.target);
  if (folder === undefined || target === undefined || target === folder || one.isTypeOnly) return true;
  if (engineTable[folder]?.includes(target) === true) return true;
  return engineFilesAllowed.has(`src/engine/${folder} > ${one.target}`);
}

export function engineTableFaults(files: readonly SourceFile[]): string[] {
  const strangers = files.filter((file) => {
    const folder = engineFolderOf(file.path);
    return folder !== undefined && engineTable[folder] === undefined;
  });
  const imports = files.filter((file) => file.path.startsWith("src/engine/")).flatMap(importsOf);
  return [
    ...strangers.map((file) => `${file.path} is in no known folder`),
    ...imports.filter((one) => !isEngineImportAllowed(one)).map((one) => `${one.from} imports ${one.target}`),
  ];
}

/** Modules that a room may import and does not. */
export function unusedModules(files: readonly SourceFile[]): string[] {
  const imports = new Set(files.flatMap(importsOf).map((one) => `${roomOf(one.from)} ${packageOf(one.target)}`));
  return Object.entries(outsideTable).flatMap(([name, rooms]) =>
    rooms.filter((room) => !imports.has(`${room} ${name}`)).map((room) => `${name} in ${room}`),
  );
}

/** A file that reaches itself through imports that exist at run time. */
export function cycleFaults(files: readonly SourceFile[]): string[] {
  const edges = new Map(
    files.map((file) => [
      file.path,
      importsOf(file)
        .filter((one) => !one.isTypeOnly)
        .map((one) => one.target),
    ]),
  );
  const reaches = (start: string): boolean => {
    const seen = new Set<string>();
    const open = [...(edges.get(start) ?? [])];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (next === start) return true;
      if (!seen.has(next)) open.push(...(edges.get(next) ?? []));
      seen.add(next);
    }
    return false;
  };
  return [...edges.keys()].filter(reaches).map((path) => `${path} imports itself through others`);
}

export function fileLengthFaults(files: readonly SourceFile[]): string[] {
  return files
    .filter((file) => linesOf(file.text) > limits.fileLines)
    .map((file) => `${file.path} has ${linesOf(file.text)} lines, over ${limits.fileLines}`);
}

export function medianFaults(files: readonly SourceFile[]): string[] {
  const lines = files.map((file) => linesOf(file.text)).sort((a, b) => a - b);
  const median = lines[Math.floor((lines.length - 1) / 2)] ?? 0;
  return median > limits.medianLines ? [`the median file has ${median} lines, over ${limits.medianLines}`] : [];
}

export function functionLengthFaults(files: readonly SourceFile[]): string[] {
  const faults: string[] = [];
  for (const file of files) {
    walk(treeOf(file), (node) => {
      if (!ts.isFunctionLike(node) || !("body" in node) || node.body === undefined) return;
      const lines = linesOf(node.getText());
      if (lines > limits.functionLines) faults.push(`${file.path}:${lineOf(node)} is a function of ${lines} lines`);
    });
  }
  return faults;
}

export function wordFaults(files: readonly SourceFile[]): string[] {
  const pattern = new RegExp(`\\b(${bannedWords.join("|")})\\b`);
  const faults = files.flatMap((file) =>
    file.text.split("\n").flatMap((line, index) => {
      const word = pattern.exec(line)?.[1];
      return word === undefined ? [] : [`${file.path}:${index + 1} says ${word}`];
    }),
  );
  const named = files.filter((file) => bannedNames.has(file.path.replace(/^.*\//, "").replace(/\..*$/, "")));
  return [...faults, ...named.map((file) => `${file.path} is named for nothing`)];
}

export function asciiFaults(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) =>
    file.text.split("\n").flatMap((line, index) => {
      const found = /[^\u0000-\u007f]/u.exec(line)?.[0];
      return found === undefined ? [] : [`${file.path}:${index + 1} has ${JSON.stringify(found)}`];
    }),
  );
}

const hasModifier = (node: ts.Node, kind: ts.SyntaxKind): boolean =>
  ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some((modifier) => modifier.kind === kind);

export function defaultExportFaults(files: readonly SourceFile[]): string[] {
  return files
    .filter((file) =>
      treeOf(file).statements.some(
        (node) => ts.isExportAssignment(node) || hasModifier(node, ts.SyntaxKind.DefaultKeyword),
      ),
    )
    .map((file) => `${file.path} has a default export`);
}

/** A door is for names that live behind it; every other file exports what it defines. */
export function barrelFaults(files: readonly SourceFile[]): string[] {
  const reExports = files.flatMap(importsOf).filter((one) => one.isExport);
  return reExports
    .filter((one) => one.from !== "src/index.ts" || one.names === undefined)
    .map((one) => `${one.from} passes on ${one.names?.join(", ") ?? "everything"} from ${one.target}`);
}

interface Exported {
  readonly name: string;
  readonly isType: boolean;
}

function exportsOf(file: SourceFile): Exported[] {
  return treeOf(file).statements.flatMap((node): Exported[] => {
    if (ts.isExportDeclaration(node) && node.moduleSpecifier === undefined) {
      return (importNames(node) ?? []).map((name) => ({ name, isType: node.isTypeOnly }));
    }
    if (!hasModifier(node, ts.SyntaxKind.ExportKeyword)) return [];
    if (ts.isVariableStatement(node)) {
      return node.declarationList.declarations.map((one) => ({ name: one.name.getText(), isType: false }));
    }
    const isType = ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node);
    const name = (node as ts.DeclarationStatement).name?.getText();
    return name === undefined ? [] : [{ name, isType }];
  });
}

/** A type that another declaration of its file speaks of is alive: it is part of that one's shape. */
function isSpokenOf(file: SourceFile, name: string): boolean {
  let count = 0;
  walk(treeOf(file), (node) => {
    if (ts.isIdentifier(node) && node.text === name) count += 1;
  });
  return count > 1;
}

/** `files` are all that may import; complaints are about those in `src`, the door apart. */
export function deadExportFaults(files: readonly SourceFile[]): string[] {
  const used = new Map<string, Set<string> | "all">();
  for (const one of files.flatMap(importsOf)) {
    const known = used.get(one.target) ?? new Set();
    if (one.names === undefined || known === "all") used.set(one.target, "all");
    else used.set(one.target, new Set([...known, ...one.names]));
  }
  return files
    .filter((file) => file.path.startsWith("src/") && file.path !== "src/index.ts")
    .flatMap((file) => {
      const names = used.get(file.path);
      if (names === "all") return [];
      return exportsOf(file)
        .filter(({ name, isType }) => !(names?.has(name) ?? false) && !(isType && isSpokenOf(file, name)))
        .map(({ name }) => `${file.path} exports ${name}, which nobody imports`);
    });
}
