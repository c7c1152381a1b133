import type { CodedSpace } from "./coded-space.ts";
import { INSPECT, type Inspect, inspected } from "./inspect.ts";
import { KeyspaceView } from "./keyspace.ts";
import type { Namespace } from "./types.ts";

/** A named key space. */
export class NamespaceView<K, V, KeyIn, ValueIn>
  extends KeyspaceView<K, V, KeyIn, ValueIn>
  implements Namespace<K, V, KeyIn, ValueIn>
{
  readonly #name: string;

  constructor(coded: CodedSpace<K, V, KeyIn, ValueIn>) {
    super(coded);
    this.#name = coded.space.name;
  }

  get name(): string {
    return this.#name;
  }

  override [INSPECT](_depth: number, options: object, inspect: Inspect): string {
    return inspected("Namespace", { value: this.toJSON(), options, inspect });
  }
}
