/** The part of the bug bank that is about encryption; see `bank.ts`. */

import { fault, type PlantedFault } from "./fault.ts";

/** What an image of an encrypted log belongs to. */
const KNOWN = "test/encryption/known-session.test.ts";

/** What keeps secrets, and who tampers out. */
export const SECRETS: readonly PlantedFault[] = [
  fault("an open goes on in the session before, its counter begun anew", "encrypted", "engine/sealed/vault.ts", [
    "return this.#numbers[SESSION_ACTIVE] !== 0;",
    "return this.#numbers[SESSION_LAST] !== 0;",
  ]),
  fault("a session's salt is not drawn", "encrypted", "engine/sealed/vault.ts", [
    "this.#parts.system.random(salt);\n    return { lsn",
    "return { lsn",
  ]),
  fault(
    "a thread keeps the keys of every file that compactions have replaced",
    "test/encryption/compact.test.ts",
    "engine/sealed/vault.ts",
    ["      if (segments.ofBase(base) !== 0) continue;\n", "      if (base >= 0) continue;\n"],
  ),
  fault(
    "a dead writer's session is taken for one that was refused",
    "test/encryption/sessions.test.ts",
    "engine/sealed/vault.ts",
    ["    this.#pending = [];\n    this.enter(position);\n", "    this.enter(position);\n"],
  ),
  fault(
    "what a rotten image said of the newest session is believed",
    "test/encryption/sessions.test.ts",
    "engine/open/hint-open.ts",
    ["      core.vault?.forget();\n", ""],
  ),
  fault("an image knows a session in any log that ends as its own", KNOWN, "engine/hint/hint-reader.ts", [
    "(sealed === undefined || isContinued(system, log.file, sealed))",
    "true",
  ]),
  fault("an image knows its newest session by one of the two records alone", KNOWN, "engine/hint/hint-reader.ts", [
    " || isFirstThere()",
    "",
  ]),
  fault("a session far behind the one before it is not found by the image", KNOWN, "engine/hint/hint-reader.ts", [
    "[0, SHAPE_WIDE_PREV].map(",
    "[0].map(",
  ]),
  fault(
    "salvage believes a header in the clear that says how a batch of an encrypted log ended",
    "test/encryption/salvage.test.ts",
    "engine/salvage/salvage-log.ts",
    ["(this.#source.opener === undefined && kind <= KIND_END)", "kind <= KIND_END"],
  ),
  fault(
    "an encrypted log without its header page is salvaged as a plain one, of nothing",
    "test/encryption/salvage.test.ts",
    "engine/salvage/salvage.ts",
    ["encryption === undefined && !isSealed)", "encryption === undefined)"],
  ),
  fault("dead bytes are fewer than none", "test/encryption/sessions.test.ts", "engine/stats.ts", [
    "Math.max(0, logBytes(core) - live)",
    "logBytes(core) - live",
  ]),
  fault("a nonce is an offset in the file", "encrypted", "engine/sealed/sealed-encoder.ts", [
    "counter: source.nextCounter() }",
    "counter: lsn / 8 }",
  ]),
  fault(
    "a block of counters is claimed and not counted",
    "test/crypto/nonce-counter.test.ts",
    "crypto/nonce-counter.ts",
    ["const block = Atomics.add(words, word.index, 1);", "const block = Atomics.load(words, word.index);"],
  ),
  fault(
    "the header of a sealed frame is not authenticated",
    "test/encryption/attacks.test.ts",
    "engine/sealed/sealed-encoder.ts",
    [
      "export const CLEAR_BYTES = FRAME_HEADER_BYTES - CLEAR_AT;",
      "export const CLEAR_BYTES = 0 * (FRAME_HEADER_BYTES - CLEAR_AT);",
    ],
  ),
  fault("a frame in the clear is taken in an encrypted log", "test/encryption/attacks.test.ts", "log/scanner.ts", [
    "if (facts.kind <= KIND_END) return IN_THE_CLEAR;",
    "if (facts.kind <= KIND_END) return FRAME;",
  ]),
  fault(
    "what a helper opened is taken for any frame there",
    "test/encryption/open-ahead.test.ts",
    "engine/sealed/open-ahead.ts",
    ["if (compare(address + tagAt, opened + tagAt, TAG_BYTES) !== 0) return undefined;", ""],
  ),
  fault(
    "what a helper opened elsewhere is taken",
    "test/encryption/open-ahead.test.ts",
    "engine/sealed/open-ahead.ts",
    [" || slot.startOf(this.#cursor) !== offset", ""],
  ),
  {
    ...fault("the system's cipher goes on under the key before", "test/crypto/aead.test.ts", "crypto/system-aead.ts", [
      "if (this.#context !== undefined && this.#key === key)",
      "if (this.#context !== undefined)",
    ]),
    needs: "libcrypto",
  },
  {
    ...fault("the system's cipher keeps a key that was wiped", "test/crypto/memory.test.ts", "crypto/system-aead.ts", [
      "if (secret === this.#key) this.#free();",
      "if (secret === this.#key) this.#key = undefined;",
    ]),
    needs: "libcrypto",
  },
  {
    ...fault(
      "the system's cipher is used whatever it answers",
      "test/crypto/system-aead.test.ts",
      "crypto/system-aead.ts",
      ["if (cipher === undefined || !answersRight(cipher, ANSWERS[name])) return", "if (cipher === undefined) return"],
    ),
    needs: "libcrypto",
  },
  {
    ...fault("a thread that is terminated leaves its keys behind", "test/crypto/memory.test.ts", "ffi/libcrypto.ts", [
      "ownedBuffer({ address: context, bytes: 1 }, symbolAddress(calls.EVP_CIPHER_CTX_free))",
      "new ArrayBuffer(1)",
    ]),
    needs: "libcrypto",
  },
  fault(
    "a runtime without the memory to stretch is told in its own words",
    "test/crypto/argon2.test.ts",
    "crypto/argon2.ts",
    [
      "return stretchWithNoble(request);\n    throw cannotStretch(cause);",
      "return stretchWithNoble(request);\n    throw cause;",
    ],
  ),
  fault(
    "a refusal beside a secret forgets which call it was",
    "test/encryption/open-matrix.test.ts",
    "engine/sealed/unlock.ts",
    ["{ path, offset, syscall, errno, cause }", "{ path, offset, cause }"],
  ),
  fault(
    "of two secrets the first is kept where the second is wrong",
    "test/api/open-options.test.ts",
    "api/secrets.ts",
    ["    wipeAsked({ encryption: first, cipher: undefined });\n", ""],
  ),
  fault("secrets are copied for a call that is aborted already", "test/api/open-options.test.ts", "api/emdb.ts", [
    "    const progress = checkedProgress(options);\n    const secrets = checkedSecrets(current, next);\n",
    "    const secrets = checkedSecrets(current, next);\n    const progress = checkedProgress(options);\n",
  ]),
  fault("keys stay where helpers had them", "test/encryption/open-ahead.test.ts", "engine/sealed/ahead-block.ts", [
    "    this.u8.fill(0, SLOTS_AT);\n",
    "",
  ]),
  fault(
    "of two threads that claim the last nonces one counts on behind them",
    "test/crypto/nonce-counter.test.ts",
    "crypto/nonce-counter.ts",
    ["return block < BLOCKS_MAX ? block : undefined;", "return block;"],
  ),
  fault("two threads claim one block of nonces", "test/crypto/nonce-counter.test.ts", "crypto/nonce-counter.ts", [
    "Atomics.add(words, word.index, 1);",
    "words[word.index]!++;",
  ]),
];
