/**
 * What `src` may use that it neither declares nor imports. Whatever reaches outside (files, processes, the network, time,
 * chance) comes in through `src/ffi`, so everywhere else a global is used only if it is on a list here: one that the next
 * version of Bun adds is a complaint until somebody has looked at it. Programs that Workers get as text are looked at too.
 */

import ts from "typescript";
import { lineOf, roomOf, treeOf, walk, type SourceFile } from "./tidy-rules.ts";

/** The language itself, without what reads the clock, rolls dice or makes code from text. */
const LANGUAGE = new Set(
  (
    "Array ArrayBuffer Atomics BigInt BigInt64Array BigUint64Array Boolean DataView Error Float32Array Float64Array " +
    "Infinity Int16Array Int32Array Int8Array Iterator JSON Map Math NaN Number Object Promise Proxy RangeError Reflect " +
    "RegExp Set SharedArrayBuffer String SuppressedError Symbol SyntaxError TypeError Uint16Array Uint32Array Uint8Array " +
    "WeakMap WeakRef WeakSet arguments decodeURIComponent encodeURIComponent isFinite isNaN parseFloat parseInt undefined"
  ).split(" "),
);

/** Of those, whose members are looked at one by one; they are not to be passed on whole. */
const LANGUAGE_EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  Math: ["random"],
  Atomics: ["pause", "wait", "waitAsync"],
};

/** Everything else that is used, and the rooms or files that may. A member is no licence for the whole. */
const OUTSIDE: Readonly<Record<string, readonly string[]>> = {
  // Text, bytes and names, without a look at the machine.
  AbortSignal: ["api"],
  Buffer: [],
  ReadableStream: ["api"],
  TextDecoder: [],
  TextEncoder: [],
  URL: ["api"],
  "Bun.SHA512": ["keydir"],
  "Bun.fileURLToPath": ["api"],
  "Bun.hash": ["crypto", "engine", "log"],
  // Which runtime wrote a value: its structured clone is no standard.
  "Bun.version": ["codec"],
  "Function.prototype": ["errors"],
  // The registry of open databases, and who may write to one, which have to outlive an evaluation of the package.
  globalThis: ["src/api/handle.ts", "src/engine/abandoned.ts", "src/engine/door.ts"],
  // What nobody holds any more.
  FinalizationRegistry: ["engine"],
  // Packages are loaded when they are needed.
  require: ["src/crypto/packages.ts"],
  // Turns of the event loop, and threads that wait for one another.
  "Atomics.wait": ["engine"],
  "Atomics.waitAsync": ["engine"],
  queueMicrotask: ["engine"],
  setImmediate: ["src/api/record-stream.ts", "src/engine/door.ts"],
  setInterval: ["src/engine/sync/commit-worker.ts", "src/engine/sync/group-commit.ts", "src/engine/threads/changed.ts"],
  clearInterval: [
    "src/engine/sync/commit-worker.ts",
    "src/engine/sync/group-commit.ts",
    "src/engine/threads/changed.ts",
  ],
  setTimeout: ["src/engine/door.ts"],
  clearTimeout: ["src/engine/door.ts"],
  Blob: ["src/engine/threads/text-worker.ts"],
  Worker: ["src/engine/threads/text-worker.ts"],
  "URL.createObjectURL": ["src/engine/threads/text-worker.ts"],
  "URL.revokeObjectURL": ["src/engine/threads/text-worker.ts"],
};

/** What every program in text may use: a Worker's own end of its channel, its waits and its end. */
const IN_PROGRAMS = ["self.onmessage", "postMessage", "process.exit", "Atomics.wait"];
/** What one may besides, modules by their specifier. */
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  "src/log/commit-script.ts": ['"bun:ffi"', "performance.now"],
  "src/engine/sealed/open-ahead-script.ts": ['"bun:ffi"', "process.getBuiltinModule", "Buffer.from"],
};

/** The same of any object: `crypto`, `globalThis.crypto`, `node:crypto`. */
const randomCalls = new Set(["getRandomValues", "randomUUID", "randomBytes", "randomFillSync", "randomInt"]);

type Scopes = ReadonlyMap<ts.Node, ReadonlySet<string>>;

const isScope = (node: ts.Node): boolean =>
  ts.isSourceFile(node) ||
  ts.isBlock(node) ||
  ts.isFunctionLike(node) ||
  ts.isIterationStatement(node, false) ||
  ts.isCatchClause(node) ||
  ts.isCaseBlock(node) ||
  ts.isClassLike(node);

function scopeOf(node: ts.Node): ts.Node {
  let scope = node;
  while (!isScope(scope)) scope = scope.parent;
  return scope;
}

function isAmbient(node: ts.Node): boolean {
  const statement = ts.findAncestor(node, ts.isStatement);
  return statement !== undefined && ts.canHaveModifiers(statement)
    ? (ts.getModifiers(statement) ?? []).some(({ kind }) => kind === ts.SyntaxKind.DeclareKeyword)
    : false;
}

/** The name that a node declares, and where it is known. */
function declared(node: ts.Node): { readonly name: string; readonly scope: ts.Node } | undefined {
  if (ts.isImportSpecifier(node) || ts.isNamespaceImport(node) || ts.isImportClause(node)) {
    return node.name === undefined ? undefined : { name: node.name.text, scope: node.getSourceFile() };
  }
  const isVariable = ts.isVariableDeclaration(node) || ts.isBindingElement(node) || ts.isParameter(node);
  if (isVariable) {
    if (!ts.isIdentifier(node.name) || isAmbient(node)) return undefined;
    return { name: node.name.text, scope: scopeOf(node.parent) };
  }
  if (ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node) || ts.isEnumDeclaration(node)) {
    if (node.name === undefined || isAmbient(node)) return undefined;
    return { name: node.name.text, scope: scopeOf(node.parent) };
  }
  const isNamed = ts.isFunctionExpression(node) || ts.isClassExpression(node);
  return isNamed && node.name !== undefined ? { name: node.name.text, scope: node } : undefined;
}

function scopesOf(tree: ts.SourceFile): Scopes {
  const scopes = new Map<ts.Node, Set<string>>();
  walk(tree, (node) => {
    const found = declared(node);
    if (found === undefined) return;
    const names = scopes.get(found.scope) ?? new Set();
    scopes.set(found.scope, names.add(found.name));
  });
  return scopes;
}

function isDeclared(node: ts.Identifier, scopes: Scopes): boolean {
  for (let scope: ts.Node | undefined = node; scope !== undefined; scope = scope.parent)
    if (scopes.get(scope)?.has(node.text) === true) return true;
  return false;
}

/** Whether an identifier stands for a value, and is not the name of a member or of a type. */
function isValue(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isShorthandPropertyAssignment(parent)) return parent.name === node;
  if (ts.isImportSpecifier(parent) || ts.isImportClause(parent) || ts.isNamespaceImport(parent)) return false;
  if (ts.isExportSpecifier(parent)) return false;
  if (ts.isMetaProperty(parent) || ts.isLabeledStatement(parent) || ts.isBreakOrContinueStatement(parent)) return false;
  if (ts.isBindingElement(parent) && parent.propertyName === node) return false;
  if ("name" in parent && parent.name === node) return false;
  const type = ts.findAncestor(node, (above) => ts.isTypeNode(above) || ts.isTypeElement(above));
  if (type === undefined) return true;
  // What a class extends is called.
  return ts.isExpressionWithTypeArguments(type) &&
    ts.isHeritageClause(type.parent) &&
    ts.isClassLike(type.parent.parent)
    ? type.parent.token === ts.SyntaxKind.ExtendsKeyword
    : false;
}

/** A member that is asked for by its name, in either way of writing. */
function memberOf(node: ts.Node): { readonly whole: ts.Node; readonly name: string } | undefined {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent) && parent.expression === node)
    return { whole: parent, name: parent.name.text };
  if (!ts.isElementAccessExpression(parent) || parent.expression !== node) return undefined;
  const { argumentExpression: argument } = parent;
  return ts.isStringLiteralLike(argument) ? { whole: parent, name: argument.text } : undefined;
}

/** `fetch`, `Bun.file`; of `globalThis.process.pid` it is `process.pid`. */
function namesOf(identifier: ts.Identifier): { readonly whole: string; readonly member: string | undefined } {
  let own = { node: identifier as ts.Node, name: identifier.text };
  for (let member = memberOf(own.node); own.name === "globalThis" && member !== undefined; member = memberOf(own.node))
    own = { node: member.whole, name: member.name };
  const member = memberOf(own.node)?.name;
  return { whole: own.name, member: member === undefined ? undefined : `${own.name}.${member}` };
}

/** What a program uses of the world, by name; undefined for a node that is no such use, or a free one. */
function useOf(node: ts.Node, scopes: Scopes, isAllowed: (name: string) => boolean): string | undefined {
  if (ts.isMetaProperty(node) && node.keywordToken === ts.SyntaxKind.ImportKeyword) return node.parent.getText();
  if (ts.isPropertyAccessExpression(node) && randomCalls.has(node.name.text))
    return node.getText().replace(/^globalThis\./, "");
  if (ts.isImportSpecifier(node) && randomCalls.has((node.propertyName ?? node.name).text)) {
    return node.parent.parent.parent.moduleSpecifier.getText() === '"node:crypto"' ? node.getText() : undefined;
  }
  if (!ts.isIdentifier(node) || !isValue(node) || isDeclared(node, scopes)) return undefined;
  const { whole, member } = namesOf(node);
  if (whole === "Date" && ts.isNewExpression(node.parent))
    return (node.parent.arguments?.length ?? 0) === 0 ? "new Date()" : undefined;
  const exceptions = LANGUAGE_EXCEPTIONS[whole];
  const isFree = exceptions === undefined || (member !== undefined && !exceptions.includes(member.split(".")[1]!));
  if (LANGUAGE.has(whole) && isFree) return undefined;
  return isAllowed(member ?? whole) || (member !== undefined && isAllowed(whole)) ? undefined : (member ?? whole);
}

function usesIn(file: SourceFile, isAllowed: (name: string) => boolean): { name: string; line: number }[] {
  const tree = treeOf(file);
  const scopes = scopesOf(tree);
  const found = new Map<string, { name: string; line: number }>();
  walk(tree, (node) => {
    const name = useOf(node, scopes, isAllowed);
    if (name !== undefined) found.set(`${lineOf(node)} ${name}`, { name, line: lineOf(node) });
  });
  return [...found.values()];
}

/** Whether a file, by its room or its own path, may use a name; an empty list is for all. */
function mayUse(path: string, name: string): boolean {
  if (!Object.hasOwn(OUTSIDE, name)) return false;
  const places = OUTSIDE[name]!;
  return places.length === 0 || places.includes(roomOf(path)) || places.includes(path);
}

/** A program in text: the value of a constant that says so by its name. */
function programsIn(file: SourceFile): { readonly text: string; readonly line: number }[] {
  const found: { text: string; line: number }[] = [];
  walk(treeOf(file), (node) => {
    if (!ts.isVariableDeclaration(node) || !node.name.getText().endsWith("_SCRIPT")) return;
    const { initializer } = node;
    if (initializer !== undefined && ts.isStringLiteralLike(initializer))
      found.push({ text: initializer.text, line: lineOf(initializer) });
  });
  return found;
}

function programFaults(file: SourceFile): string[] {
  const allowed = new Set([...IN_PROGRAMS, ...(PROGRAMS[file.path] ?? [])]);
  return programsIn(file).flatMap(({ text, line }) => {
    const program = { path: `${file.path}#${line}`, text };
    const modules = treeOf(program).statements.filter(ts.isImportDeclaration);
    const imported = modules.map((node) => ({ name: node.moduleSpecifier.getText(), line: lineOf(node) }));
    const uses = [
      ...usesIn(program, (name) => allowed.has(name)),
      ...imported.filter(({ name }) => !allowed.has(name)),
    ];
    return uses.map((use) => `${file.path}:${line + use.line - 1} reads ${use.name} in a program`);
  });
}

export function seamFaults(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => path.startsWith("src/") && roomOf(path) !== "ffi")
    .flatMap((file) => {
      const uses = usesIn(file, (name) => mayUse(file.path, name));
      return [...uses.map(({ name, line }) => `${file.path}:${line} reads ${name}`), ...programFaults(file)];
    });
}

/** Names and places on the list that nobody uses: such a licence is taken back. */
export function unusedLicences(files: readonly SourceFile[]): string[] {
  const source = files.filter(({ path }) => path.startsWith("src/") && roomOf(path) !== "ffi");
  const uses = source.flatMap(({ path, text }) =>
    usesIn({ path, text }, () => false).map(({ name }) => ({ name, places: [path, roomOf(path)] })),
  );
  return Object.entries(OUTSIDE).flatMap(([name, places]) => {
    const found = uses.filter((use) => use.name === name || use.name.startsWith(`${name}.`));
    if (places.length === 0) return found.length === 0 ? [name] : [];
    const isIdle = (place: string): boolean => !found.some((use) => use.places.includes(place));
    return places.filter(isIdle).map((place) => `${name} in ${place}`);
  });
}
