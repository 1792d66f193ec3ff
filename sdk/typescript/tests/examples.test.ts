// Every example of the documentation compiles as it stands, against the package as it is published.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { promisify } from "node:util";

const PACKAGE = new URL("../../", import.meta.url);
const OUT = new URL("dist/checked/examples/", PACKAGE);

/** The blocks of a text that are marked as TypeScript, without what a comment puts before each line. */
function examples(text: string): string[] {
  return [...text.matchAll(/^([ *]*)```ts\n([\s\S]*?)^\1```$/gm)].map(([, margin = "", block = ""]) =>
    block
      .split("\n")
      .map((line) => (line.startsWith(margin) ? line.slice(margin.length) : line.slice(margin.trimEnd().length)))
      .join("\n"),
  );
}

test("every example compiles", async () => {
  const sources = readdirSync(fileURLToPath(new URL("src/", PACKAGE)), { recursive: true, encoding: "utf8" });
  const files = [
    "README.md",
    "../../docs/writing-a-plugin.md",
    ...sources.filter((name) => name.endsWith(".ts")).map((name) => `src/${name}`),
  ];
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  let count = 0;
  for (const file of files) {
    for (const [index, example] of examples(readFileSync(new URL(file, PACKAGE), "utf8")).entries()) {
      count += 1;
      // An example is a module of its own, also where it imports nothing.
      writeFileSync(new URL(`${file.replaceAll("/", "-")}-${String(index)}.ts`, OUT), `${example}\nexport {};\n`);
    }
  }
  assert.ok(count >= 15, `${String(count)} examples were found`);
  const config = {
    extends: "../../../tsconfig.json",
    // The declarations are checked too: they must stand on their own.
    compilerOptions: { noEmit: true, rootDir: "../../..", noUnusedLocals: false, skipLibCheck: false },
    include: ["."],
    exclude: [],
  };
  writeFileSync(new URL("tsconfig.json", OUT), JSON.stringify(config));
  const tsc = fileURLToPath(new URL("node_modules/typescript/bin/tsc", PACKAGE));
  const compiled = promisify(execFile)(process.execPath, [tsc, "--project", fileURLToPath(OUT)]);
  await compiled.catch((problem: unknown) => {
    assert.fail((problem as { stdout: string }).stdout);
  });
});
