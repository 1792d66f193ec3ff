// What `prepare.sh` and `start.sh` do, in a folder laid out as a checkout and an installation are.
//
// `npm` is a script that notes how it was called, since the claim is about the choice; the real one runs
// whenever the plugin is started.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";

const PLUGIN = fileURLToPath(new URL("../../../", import.meta.url));
/** Notes its first word, and builds a program that says what it was built of. */
const NPM = `#!/bin/sh
echo "$1" >> "$CALLS"
if [ "$1" = run ]; then
  mkdir -p dist
  echo "console.log(\\"runs with $(ls src vendor/bkg-sdk/src | tr '\\n' ' ')\\")" > dist/main.js
fi
`;

class Layout {
  readonly root: string;
  readonly folder: string;
  readonly #environment: Record<string, string>;

  constructor(context: TestContext) {
    this.root = mkdtempSync(join(tmpdir(), "ping typescript "));
    this.folder = join(this.root, "plugins/ping-typescript");
    context.after(() => {
      chmodSync(join(this.folder, "src"), 0o755);
      rmSync(this.root, { recursive: true });
    });
    for (const name of ["package.json", "package-lock.json", "tsconfig.json", "prepare.sh", "start.sh", "src"]) {
      cpSync(join(PLUGIN, name), join(this.folder, name), { recursive: true });
    }
    mkdirSync(join(this.folder, "vendor"));
    symlinkSync("../../../sdk/typescript", join(this.folder, "vendor/bkg-sdk"));
    this.write("sdk/typescript/package.json", "{}");
    this.write("sdk/typescript/tsconfig.json", "{}");
    this.write("sdk/typescript/src/index.ts", "");
    this.write("tools/npm", NPM);
    mkdirSync(join(this.root, "cache"));
    this.#environment = {
      PATH: [join(this.root, "tools"), dirname(process.execPath), "/usr/bin", "/bin"].join(delimiter),
      BKG_PLUGIN_CACHE_DIR: join(this.root, "cache"),
      CALLS: join(this.root, "calls"),
    };
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text, { mode: 0o755 });
  }

  run(script: string): { code: number | null; said: string } {
    const path = join(this.folder, script);
    const { status, stdout, stderr } = spawnSync(path, { cwd: "/", env: this.#environment, encoding: "utf8" });
    return { code: status, said: stdout + stderr };
  }

  /** What npm was asked for since the last time. */
  calls(): string[] {
    const calls = join(this.root, "calls");
    const said = existsSync(calls) ? readFileSync(calls, "utf8").trim().split("\n") : [];
    rmSync(calls, { force: true });
    return said;
  }

  files(): string[] {
    return readdirSync(this.folder, { recursive: true, encoding: "utf8" }).sort();
  }
}

test("packages are installed for another lockfile only, and every build is a new one", (context) => {
  const layout = new Layout(context);
  const prepare = (): string[] => {
    assert.deepEqual(layout.run("prepare.sh"), { code: 0, said: "" });
    return layout.calls();
  };
  assert.deepEqual(prepare(), ["ci", "run"]);
  assert.deepEqual(layout.run("start.sh"), {
    code: 0,
    said: "runs with src: main.ts plugin.ts  vendor/bkg-sdk/src: index.ts \n",
  });

  rmSync(join(layout.folder, "src/plugin.ts"));
  layout.write("sdk/typescript/src/more.ts", "");
  assert.deepEqual(prepare(), ["run"]);
  assert.match(layout.run("start.sh").said, /src: main\.ts {2}vendor\/bkg-sdk\/src: index\.ts more\.ts/);

  layout.write("plugins/ping-typescript/package-lock.json", "{}");
  assert.deepEqual(prepare(), ["ci", "run"]);
});

test("packages that could not be installed are tried again", (context) => {
  const layout = new Layout(context);
  layout.write("tools/npm", '#!/bin/sh\necho "$1" >> "$CALLS"\nexit 1\n');
  assert.equal(layout.run("prepare.sh").code, 1);
  layout.write("tools/npm", NPM);
  assert.equal(layout.run("prepare.sh").code, 0);
  assert.deepEqual(layout.calls(), ["ci", "ci", "run"]);
});

test("nothing is written into the folder, which may be readable only", (context) => {
  const layout = new Layout(context);
  const before = layout.files();
  chmodSync(join(layout.folder, "package-lock.json"), 0o444);
  chmodSync(join(layout.folder, "src"), 0o555);
  for (let run = 0; run < 2; run += 1) {
    assert.deepEqual(layout.run("prepare.sh"), { code: 0, said: "" });
  }
  assert.deepEqual(layout.files(), before);
});

test("a Node that is too old is named", (context) => {
  const layout = new Layout(context);
  layout.write("tools/node", "#!/bin/sh\necho v18.20.4\n");
  const { code, said } = layout.run("prepare.sh");
  assert.deepEqual([code, said.includes("Node v18.20.4 is too old: install Node 20 or newer")], [78, true], said);
});

test("what npm complains of is heard", (context) => {
  const layout = new Layout(context);
  layout.write("tools/npm", '#!/bin/sh\ncase "$*" in *silent*) ;; *) echo "no network" >&2 ;; esac\nexit 1\n');
  assert.deepEqual(layout.run("prepare.sh"), { code: 1, said: "no network\n" });
});

test("a build that was broken off is made anew, also in a folder with blanks in its name", (context) => {
  const layout = new Layout(context);
  layout.write("tools/npm", '#!/bin/sh\n[ "$1" = ci ] && exit 0\nmkdir -p dist; touch dist/half.js; kill -9 $PPID\n');
  assert.notEqual(layout.run("prepare.sh").code, 0);
  assert.equal(layout.run("start.sh").code, 78);
  layout.write("tools/npm", NPM);
  assert.equal(layout.run("prepare.sh").code, 0);
  assert.match(layout.run("start.sh").said, /^runs with /);
});

test("what is missing is named", (context) => {
  const layout = new Layout(context);
  const unbuilt = layout.run("start.sh");
  assert.deepEqual([unbuilt.code, unbuilt.said.includes("run prepare.sh")], [78, true], unbuilt.said);
  rmSync(join(layout.root, "sdk"), { recursive: true });
  const alone = layout.run("prepare.sh");
  assert.deepEqual([alone.code, alone.said.includes("install the plugin again")], [78, true], alone.said);
});
