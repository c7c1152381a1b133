/** What the process was started with: platform, environment variables, home folder. */

import { homedir } from "node:os";

export interface Environment {
  /** As `process.platform`: "linux", "darwin", "win32", "freebsd" ... */
  readonly platform: string;
  /** Undefined when the system names none. */
  homeFolder(): string | undefined;
  /** Undefined when unset or empty. */
  variable(name: string): string | undefined;
}

/** The one that this process runs in; read at each call, nothing is kept. */
export const processEnvironment: Environment = {
  platform: process.platform,
  homeFolder(): string | undefined {
    // What the program has set since it began counts too; `homedir` looks at what it began with.
    const set = process.env[process.platform === "win32" ? "USERPROFILE" : "HOME"];
    if (set) return set;
    try {
      return homedir() || undefined;
    } catch {
      // A user id without an entry in the password file and without HOME.
      return undefined;
    }
  },
  variable(name: string): string | undefined {
    return process.env[name] || undefined;
  },
};
