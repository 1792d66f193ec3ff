// The TypeScript types of everything that the daemon speaks with browsers: from the OpenAPI document
// and from the schemas of the live socket, which its own tests keep. `scripts/generate` writes them,
// `types.test.mjs` holds the committed ones against them.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { compile } from "json-schema-to-typescript";
import openapiTypeScript, { astToString } from "openapi-typescript";

const repository = new URL("../../", import.meta.url);
const schemas = new URL("crates/bkg/schemas/", repository);
const types = new URL("admin-ui/src/generated/", repository);

const header = "// Written by `scripts/generate` from `crates/bkg/schemas`: change the routes or messages instead.\n\n";

const read = async (name) => JSON.parse(await readFile(new URL(name, schemas), "utf8"));

/** The types of requests and answers. */
const ofHttp = async () => astToString(await openapiTypeScript(await read("openapi.json"), { alphabetize: false }));

/** The types of what goes over the live socket, in one direction. */
const ofLive = async (name, title) =>
    compile({ ...(await read(name)), title }, title, {
        additionalProperties: false,
        bannerComment: "",
        declareExternallyReferenced: true,
        style: { printWidth: 110, tabWidth: 4 },
        unknownAny: true,
    });

/** Every file below `admin-ui/src/generated`, by name. */
export const generated = async () => ({
    "http.ts": header + (await ofHttp()),
    "live-client.ts": header + (await ofLive("live-client-message.json", "LiveClientMessage")),
    "live-server.ts": header + (await ofLive("live-server-message.json", "LiveServerMessage")),
});

export const folder = fileURLToPath(types);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    await mkdir(types, { recursive: true });
    for (const [name, text] of Object.entries(await generated())) {
        await writeFile(new URL(name, types), text);
    }
}
