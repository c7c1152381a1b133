/**
 * Every name that the package exports, and every member that a caller reaches through one, has a sentence of its own
 * in the editor. A class that implements a documented interface shows the sentences of the interface.
 */

import { expect, test } from "bun:test";
import { join } from "node:path";
import ts from "typescript";

const root = join(import.meta.dir, "../..");
const timeoutMs = 180_000;
const options: ts.CompilerOptions = {
  target: ts.ScriptTarget.ESNext,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  allowImportingTsExtensions: true,
  noEmit: true,
  types: [],
  strict: true,
};

/** A program over one file; `text` stands for the file when it is given. */
function programOf(path: string, text?: string): { readonly checker: ts.TypeChecker; readonly file: ts.SourceFile } {
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile;
  host.getSourceFile = (name, ...rest) =>
    name === path && text !== undefined
      ? ts.createSourceFile(name, text, ts.ScriptTarget.ESNext, true)
      : read.call(host, name, ...rest);
  const program = ts.createProgram([path], options, host);
  const file = program.getSourceFile(path);
  if (file === undefined) throw new Error(`${path} is not there`);
  return { checker: program.getTypeChecker(), file };
}

/** Declared here, and not private by a keyword or a `#`. */
function isOurs(member: ts.Symbol): boolean {
  const { declarations = [] } = member;
  return declarations.some((one) => {
    if (one.getSourceFile().fileName.includes("/node_modules/")) return false;
    const name = ts.getNameOfDeclaration(one);
    if (name !== undefined && ts.isPrivateIdentifier(name)) return false;
    return (ts.getCombinedModifierFlags(one) & ts.ModifierFlags.Private) === 0;
  });
}

/** Names and members without a sentence, as `Emdb.open`. */
function undocumented(path: string, text?: string): string[] {
  const { checker, file } = programOf(path, text);
  const module = checker.getSymbolAtLocation(file);
  const bare: string[] = [];
  const look = (symbol: ts.Symbol, name: string): void => {
    if (symbol.getDocumentationComment(checker).length === 0) bare.push(name);
  };
  for (const exported of module === undefined ? [] : checker.getExportsOfModule(module)) {
    const symbol = (exported.flags & ts.SymbolFlags.Alias) === 0 ? exported : checker.getAliasedSymbol(exported);
    look(symbol, symbol.name);
    const { valueDeclaration: value } = symbol;
    const types = [
      ...((symbol.flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Interface)) === 0
        ? []
        : [checker.getDeclaredTypeOfSymbol(symbol)]),
      ...(value === undefined ? [] : [checker.getTypeOfSymbolAtLocation(symbol, value)]),
    ];
    for (const member of new Set(types.flatMap((type) => type.getProperties())))
      if (member.name !== "prototype" && isOurs(member)) look(member, `${symbol.name}.${member.name}`);
  }
  return bare;
}

test(
  "every export, every member of an exported class or interface, and every codec has a sentence",
  () => expect(undocumented(join(root, "src/index.ts"))).toEqual([]),
  timeoutMs,
);

test(
  "a name, a member, a static one and an option without a sentence are each found",
  () => {
    const text = `
      /** Has one. */ export interface Options {
        /** Has one. */
        a: number;
        b: number;
      }
      /** Has one. */ export class Thing implements Options { a = 1; static open(): void {} b = 2; #own = 3; private c = 4; }
      export type Bare = string;
      /** Has one. */ export const tools = { hammer: 1 };
    `;
    const found = undocumented(join(root, "src/made-up.ts"), text);
    expect(found.sort()).toEqual(["Bare", "Options.b", "Thing.b", "Thing.open", "tools.hammer"]);
  },
  timeoutMs,
);
