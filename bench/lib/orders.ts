/** Orders in which the keys of applications come. */

import { randomFrom, shuffledNumbers } from "./data.ts";

const padded = (number: number): string => String(number).padStart(9, "0");

function* numbers(count: number, step: 1 | -1, text: (number: number) => string): Generator<string> {
  for (let index = 0; index < count; index++) yield `key ${text(step > 0 ? index : count - 1 - index)}`;
}

/** Each of `streams` gets one key behind the one before in each round. */
function* rounds(count: number, streams: number): Generator<string> {
  for (let index = 0; index < count; index++)
    yield `user:${padded(index % streams)}:${padded(Math.floor(index / streams))}`;
}

/** Some keys in order at a place, then some at another. */
function* stretches(count: number, each: number): Generator<string> {
  const many = Math.ceil(count / each);
  for (const stretch of shuffledNumbers(many, many, 7))
    for (let index = 0; index < each; index++) yield `user:${padded(stretch)}:${padded(index)}`;
}

function* nearly(count: number): Generator<string> {
  const random = randomFrom(5);
  for (let index = 0; index < count; index++) yield `key ${padded(index + Math.floor(random() * 20))}:${padded(index)}`;
}

function* shuffled(count: number): Generator<string> {
  const random = randomFrom(5);
  for (let index = 0; index < count; index++)
    yield Array.from({ length: 24 }, () => String.fromCharCode(33 + random() * 90)).join("");
}

/** Orders by name: `count` keys, no two alike. */
export const orders: Readonly<Record<string, (count: number) => Iterable<string>>> = {
  "in order": (count) => numbers(count, 1, padded),
  "in order, backwards": (count) => numbers(count, -1, padded),
  "in order but for twenty": nearly,
  "numbers without zeros in front": (count) => numbers(count, 1, String),
  "numbers without zeros in front, backwards": (count) => numbers(count, -1, String),
  "a hundred streams in turn": (count) => rounds(count, 100),
  "streams of a hundred keys in turn": (count) => rounds(count, Math.ceil(count / 100)),
  "a hundred stretches": (count) => stretches(count, Math.ceil(count / 100)),
  "stretches of ten": (count) => stretches(count, 10),
  random: shuffled,
};
