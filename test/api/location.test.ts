/** Where a database lies by default, and which names are refused everywhere because one platform cannot hold them. */

import { describe, expect, test } from "bun:test";
import { locationPath } from "../../src/api/location.ts";
import { processEnvironment, type Environment } from "../../src/ffi/environment.ts";
import { LOCATION_NAME_BYTES_MAX } from "../../src/limits.ts";
import { expectCode } from "../contract/fixture.ts";

function environmentOf(
  platform: string,
  home: string | undefined,
  variables: Readonly<Record<string, string>> = {},
): Environment {
  return { platform, homeFolder: () => home, variable: (name) => variables[name] };
}

const linux = environmentOf("linux", "/home/ada");
const windows = environmentOf("win32", "C:\\Users\\Ada", { LOCALAPPDATA: "C:\\Users\\Ada\\AppData\\Local" });

describe("the default place", () => {
  test("is the platform's folder for application data", () => {
    const tail = "emdb/emdb-default.emdb";
    expect(locationPath({}, linux)).toBe(`/home/ada/.local/share/${tail}`);
    expect(locationPath({}, environmentOf("freebsd", "/home/ada"))).toBe(`/home/ada/.local/share/${tail}`);
    expect(locationPath({}, environmentOf("linux", "/home/ada", { XDG_DATA_HOME: "/data" }))).toBe(`/data/${tail}`);
    expect(locationPath({}, environmentOf("darwin", "/Users/ada", { XDG_DATA_HOME: "/data" }))).toBe(
      `/Users/ada/Library/Application Support/${tail}`,
    );
    expect(locationPath({}, windows)).toBe("C:\\Users\\Ada\\AppData\\Local\\emdb\\emdb-default.emdb");
    expect(locationPath({}, environmentOf("win32", "C:\\Users\\Ada"))).toBe(
      "C:\\Users\\Ada\\AppData\\Local\\emdb\\emdb-default.emdb",
    );
  });

  test("follows the home folder that the program sets while it runs", () => {
    const name = process.platform === "win32" ? "USERPROFILE" : "HOME";
    const before = process.env[name];
    try {
      process.env[name] = "/home/of/another";
      expect(processEnvironment.homeFolder()).toBe("/home/of/another");
    } finally {
      process.env[name] = before;
    }
  });

  test("ignores a relative XDG_DATA_HOME, as its specification says", () => {
    const relative = environmentOf("linux", "/home/ada", { XDG_DATA_HOME: "data" });
    expect(locationPath({}, relative)).toBe("/home/ada/.local/share/emdb/emdb-default.emdb");
  });

  test("is EMDB_INVALID_CONFIG without a home folder, unless dataRoot is given", () => {
    for (const platform of ["linux", "darwin", "win32"]) {
      expectCode("EMDB_INVALID_CONFIG", () => locationPath({}, environmentOf(platform, undefined)));
    }
    expect(locationPath({ dataRoot: "/r" }, environmentOf("linux", undefined))).toBe("/r/emdb/emdb-default.emdb");
  });

  test("takes names and a root of the caller's", () => {
    const options = { appName: "My App", databaseName: "main", dataRoot: "/var/lib" };
    expect(locationPath(options, linux)).toBe("/var/lib/My App/main");
    expect(locationPath({ ...options, dataRoot: "D:\\data" }, windows)).toBe("D:\\data\\My App\\main");
  });
});

describe("a name", () => {
  const devices = [
    "CON",
    "prn",
    "Aux",
    "NUL",
    "COM0",
    "com1",
    "COM9",
    "LPT1",
    "lpt9",
    "COM\u00b9",
    "LPT\u00b3",
    "CONIN$",
    "conout$",
  ];
  const wrong: readonly unknown[] = [
    "",
    ".",
    "..",
    "a/b",
    "/a",
    "a\\b",
    "..\\a",
    "a\0b",
    "a\nb",
    "a\u007f",
    "C:x",
    "C:",
    "a:stream",
    "a*",
    "a?",
    'a"b',
    "a<b",
    "a>b",
    "a|b",
    "a.",
    "a ",
    "a...",
    " . ",
    "\ud800",
    "x".repeat(LOCATION_NAME_BYTES_MAX + 1),
    "\u00e9".repeat(LOCATION_NAME_BYTES_MAX / 2 + 1),
    5,
    null,
    {},
    ...devices,
    ...devices.map((name) => `${name}.emdb`),
    ...devices.map((name) => `${name} .txt`),
  ];

  test("that some platform cannot hold is EMDB_INVALID_CONFIG on every platform", () => {
    for (const environment of [linux, windows, environmentOf("darwin", "/Users/ada")]) {
      for (const name of wrong as readonly string[]) {
        expectCode("EMDB_INVALID_CONFIG", () => locationPath({ appName: name }, environment));
        expectCode("EMDB_INVALID_CONFIG", () => locationPath({ databaseName: name }, environment));
      }
    }
  });

  test("that only looks like a wrong one is taken", () => {
    for (const name of [
      "console",
      "COM10",
      "nul1",
      "a.con",
      ".hidden",
      "a..b",
      "..a",
      " a",
      "\u00e9",
      "x".repeat(200),
    ]) {
      expect(locationPath({ dataRoot: "/r", databaseName: name }, linux)).toBe(`/r/emdb/${name}`);
    }
  });

  test("never leads out of the root", () => {
    for (const dataRoot of ["", "a\0b", 5, "\ud800"]) {
      expectCode("EMDB_INVALID_CONFIG", () => locationPath({ dataRoot: dataRoot as string }, linux));
    }
  });
});
