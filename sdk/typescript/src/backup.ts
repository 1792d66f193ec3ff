// A plugin's part of a backup of the host: `lifecycle.backup`.
//
// The plugin writes a copy of what it keeps below a directory of the host's; here the request is read and what
// is there afterwards is listed. Not what a copy is: only the plugin knows when its files fit together. The
// invariant: every file that is listed lies below the directory.

import { readdir } from "node:fs/promises";

import { Capability } from "./capability.js";
import { messageOf } from "./error.js";
import { ErrorCode, WireError } from "./protocol/error.js";
import type { Json } from "./protocol/raw-json.js";

/** Writes a copy of what the plugin keeps below a directory. */
export type BackupHandler = (directory: string) => void | Promise<void>;

/** The capability that answers with the files that `handler` left in the directory. */
export function capabilityOfBackup(handler: BackupHandler): Capability {
  return new Capability("lifecycle.backup", {
    description: "Writes a copy of what the plugin keeps below a directory, for a backup of the host",
    answer: async ({ payload }) => {
      const directory = directoryOf(payload);
      try {
        await handler(directory);
        return { files: (await filesBelow(directory, "")).sort() };
      } catch (problem) {
        const message = `the backup failed: ${messageOf(problem)}`;
        throw problem instanceof WireError ? problem : new WireError(ErrorCode.PluginError, message);
      }
    },
  });
}

function directoryOf(payload: Json): string {
  if (typeof payload === "object" && payload !== null && !Array.isArray(payload)) {
    const { directory } = payload;
    if (typeof directory === "string") {
      return directory;
    }
  }
  throw new WireError(ErrorCode.InvalidRequest, "`directory` is missing, or no text", { param: "directory" });
}

/** The files below a directory, relative and with `/` between the steps; links are not followed. */
async function filesBelow(directory: string, folder: string): Promise<string[]> {
  const files: string[] = [];
  for (const entry of await readdir(`${directory}/${folder}`, { withFileTypes: true })) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) {
      files.push(...(await filesBelow(directory, path)));
    } else if (entry.isFile()) {
      files.push(path);
    }
  }
  return files;
}
