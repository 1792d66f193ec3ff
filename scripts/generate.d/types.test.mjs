// The committed types are those of the schemas, and a strict compiler takes them.

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { folder, generated } from "./generate.mjs";

const STRICT = {
    exactOptionalPropertyTypes: true,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    noEmit: true,
    noUncheckedIndexedAccess: true,
    strict: true,
    target: ts.ScriptTarget.ES2023,
    types: [],
    verbatimModuleSyntax: true,
};

test("the committed types are those of the schemas", async () => {
    const expected = await generated();
    assert.deepEqual((await readdir(folder)).sort(), Object.keys(expected).sort());
    for (const [name, text] of Object.entries(expected)) {
        const committed = await readFile(join(folder, name), "utf8");
        assert.ok(committed === text, `\`${name}\` is not what the schemas say: run \`scripts/generate\``);
    }
});

test("a strict compiler takes the types, and they tell right from wrong", () => {
    const program = ts.createProgram([fileURLToPath(new URL("uses.ts", import.meta.url))], STRICT);
    const found = ts.getPreEmitDiagnostics(program);
    const messages = found.map((one) => ts.flattenDiagnosticMessageText(one.messageText, "\n"));
    assert.deepEqual(messages, []);
});
