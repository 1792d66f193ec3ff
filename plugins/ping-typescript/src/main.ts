// Runs the plugin until the host stops it. `plugin.ts` says what it answers.

import { plugin } from "./plugin.js";

await plugin().run();
