// What a page does with the generated types. Never run: the compiler alone looks at it, and an
// `@ts-expect-error` that it does not expect is an error too.

import type { components, operations } from "../../admin-ui/src/generated/http";
import type { LiveClientMessage } from "../../admin-ui/src/generated/live-client";
import type { LiveServerMessage } from "../../admin-ui/src/generated/live-server";

export const codeOf = (body: components["schemas"]["ErrorBody"]): components["schemas"]["ErrorWord"] => body.error.code;

export type Keys = operations["getAdminKeys"]["responses"][200]["content"]["application/json"];

export const namesOf = ({ keys }: Keys): string[] => keys.map((key) => key.name);

export const follow: LiveClientMessage = { action: "SUB", topic: "logs", pluginId: "ping" };

// @ts-expect-error There is no such topic.
export const lost: LiveClientMessage = { action: "SUB", topic: "weather" };

export const kindOf = (message: LiveServerMessage): string => {
    switch (message.type) {
        case "bootstrap":
            return message.payload.plugins.map((plugin) => plugin.name).join();
        default:
            return message.type;
    }
};
