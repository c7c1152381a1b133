/** Puts the installed package in the place of the source: `bun test --preload` it, with its folder in `EMDB_TEST_INSTALLED`. */

const door = `${process.env["EMDB_TEST_INSTALLED"]}/dist/index.js`;

Bun.plugin({
  name: "installed",
  setup(build) {
    build.onLoad({ filter: /[\\/]src[\\/](index|errors|codec[\\/]codec)\.ts$/ }, () => ({
      loader: "js",
      // What limits are checked with, as they are loaded.
      contents: `export * from ${JSON.stringify(door)}; export const assert = () => {};`,
    }));
    build.onLoad({ filter: /[\\/]src[\\/](api|engine|log|keydir|ordered|crypto|ffi)[\\/]/ }, ({ path }) => {
      throw new Error(`${path} is not of the package`);
    });
  },
});
