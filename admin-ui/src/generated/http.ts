// Written by `scripts/generate` from `crates/bkg/schemas`: change the routes or messages instead.

export interface paths {
    "/v1/responses": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Have a response made
         * @description OpenAI's Responses API as a translation of a chat. Nothing is kept between requests.
         *
         *     Needs the scope `llm.chat`.
         */
        post: operations["postV1Responses"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/messages": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Have a message written
         * @description Anthropic's Messages API as a translation of a chat. The key may also come in `x-api-key`.
         *
         *     Needs the scope `llm.chat`.
         */
        post: operations["postV1Messages"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/messages/count_tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Estimate the tokens of a message
         * @description An estimate: a token is taken to have four bytes, an image 1,600 tokens. No plugin is asked.
         *
         *     Needs the scope `llm.chat`.
         */
        post: operations["postV1MessagesCountTokens"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/chat/completions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Have a chat completed
         * @description Needs the scope `llm.chat`.
         */
        post: operations["postV1ChatCompletions"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/completions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Have a text completed
         * @description The older form: a chat with one user message.
         *
         *     Needs the scope `llm.chat`.
         */
        post: operations["postV1Completions"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/embeddings": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Have texts embedded
         * @description Needs the scope `llm.embed`.
         */
        post: operations["postV1Embeddings"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/models": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List models
         * @description Needs any credential.
         */
        get: operations["getV1Models"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/models/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show a model
         * @description Needs any credential.
         */
        get: operations["getV1ModelsId"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List plugins that the caller may use
         * @description With `plugin:read` all of them; `allowed` says what may be used.
         *
         *     Needs any credential.
         */
        get: operations["getApiPlugins"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/telemetry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read what all plugins cost now
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getApiPluginsTelemetry"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/execute": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Run a plugin without naming a capability
         * @description Asks for `NAME.execute` if the plugin has it, else for its only capability, and needs that scope. A text travels as `{"input": …}`, an object as it is.
         *
         *     Needs the scope of the capability that the request names.
         */
        post: operations["postApiPluginsExecute"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show a plugin as the caller may use it
         * @description Needs any credential.
         */
        get: operations["getApiPluginsName"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show how a plugin stands
         * @description Needs any credential.
         */
        get: operations["getApiPluginsNameStatus"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/capabilities": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what a plugin offers to the caller
         * @description Needs any credential.
         */
        get: operations["getApiPluginsNameCapabilities"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/invoke": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Ask a plugin for a capability
         * @description Needs the scope of the capability: its name, unless the plugin's entry says another.
         *
         *     Needs the scope of the capability that the request names.
         */
        post: operations["postApiPluginsNameInvoke"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/routes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the routes of plugins
         * @description Needs any credential.
         */
        get: operations["getApiPluginsRoutes"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/runs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the runs of a plugin
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameRuns"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/runs/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show a run of a plugin with its crash card
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameRunsId"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List what happened to a plugin
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameEvents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List plugins
         * @description With the folders that cannot be used, and why.
         *
         *     Needs the scope `plugin:read`.
         */
        get: operations["getAdminPlugins"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show a plugin
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsName"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/routes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the HTTP routes of a plugin
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameRoutes"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/start": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Start a plugin
         * @description Needs the scope `plugin:manage`.
         */
        post: operations["postAdminPluginsNameStart"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/stop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Stop a plugin
         * @description Needs the scope `plugin:manage`.
         */
        post: operations["postAdminPluginsNameStop"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/restart": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Restart a plugin
         * @description Needs the scope `plugin:manage`.
         */
        post: operations["postAdminPluginsNameRestart"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/swap": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Have a new version of a plugin take over
         * @description The plugin's files are read again. The version that they describe starts beside the one that serves and takes over when it is ready; `swap` of the plugin says how it goes.
         *
         *     Needs the scope `plugin:manage`.
         */
        post: operations["postAdminPluginsNameSwap"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/telemetry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read what a plugin's processes cost
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameTelemetry"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/telemetry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read what a plugin's processes cost
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getApiPluginsNameTelemetry"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/routing": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the routes of models
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminRouting"];
        /**
         * Replace the routes of models
         * @description They hold at once for every request that begins afterwards.
         *
         *     Needs the scope `plugin:manage`.
         */
        put: operations["putAdminRouting"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/routing/decision": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Say where a request would go
         * @description As things are at this moment, for somebody who may use every model.
         *
         *     Needs the scope `plugin:read`.
         */
        get: operations["getAdminRoutingDecision"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/config": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the entry of a plugin
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameConfig"];
        /**
         * Replace the entry of a plugin
         * @description Settings and how the plugin is run take `plugin:manage`, what it may do takes `admin`, and what is executed (`entrypoint`, `args`, `env`, `prepare`) besides a login of the last five minutes.
         *
         *     Needs the scope `plugin:manage`.
         */
        put: operations["putAdminPluginsNameConfig"];
        /**
         * Change the entry of a plugin
         * @description The body is a JSON Merge Patch (RFC 7396) of the effective entry: `null` takes a member away.
         *
         *     Needs the scope `plugin:manage`.
         */
        post: operations["postAdminPluginsNameConfig"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/config/reset": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Have places of the entry be what the plugin's files say
         * @description Needs the scope `plugin:manage`.
         */
        post: operations["postAdminPluginsNameConfigReset"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/config/return": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Have an earlier revision hold again
         * @description Needs the scope `plugin:manage`.
         */
        post: operations["postAdminPluginsNameConfigReturn"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/config/diff": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Compare two revisions
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameConfigDiff"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/config/revisions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the revisions of an entry
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameConfigRevisions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/config/revisions/{revision}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show a revision
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameConfigRevisionsRevision"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/mirror": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Look at the mirror of entries
         * @description `plugins.json` in the data directory shows the entries in effect. What somebody wrote into it by hand takes effect when it is imported.
         *
         *     Needs the scope `plugin:read`.
         */
        get: operations["getAdminMirror"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/mirror/import": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Import what was written into the mirror by hand
         * @description Needs the scope `plugin:manage`.
         */
        post: operations["postAdminMirrorImport"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/mirror/discard": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Move what was written into the mirror by hand aside
         * @description Needs the scope `plugin:manage`.
         */
        post: operations["postAdminMirrorDiscard"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the log of a plugin
         * @description As JSON a page of lines that the filters take. With `Accept: text/event-stream` the page comes first and the stream goes on from it without a hole: events `line` with a line as `data` and its number as `id`, and events `gap` with `{"lines": N}` for lines that are missing.
         *
         *     Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the log of a plugin
         * @description As JSON a page of lines that the filters take. With `Accept: text/event-stream` the page comes first and the stream goes on from it without a hole: events `line` with a line as `data` and its number as `id`, and events `gap` with `{"lines": N}` for lines that are missing.
         *
         *     Needs the scope `plugin:read`.
         */
        get: operations["getApiPluginsNameLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/plugins/{name}/logs/download": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Download the log of a plugin
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPluginsNameLogsDownload"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the logs of all plugins, by time
         * @description As the log of one plugin; a place is a number for each plugin, such as `ping:12,tester:7`.
         *
         *     Needs the scope `plugin:read`.
         */
        get: operations["getAdminLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/ws": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Open the live socket
         * @description A WebSocket with the subprotocol `bkg.v1`: how things are, and from then on what changes. A page that cannot set headers names `bkg.ticket.TICKET` as a further subprotocol.
         *
         *     Needs any credential, or a one-time ticket in its place.
         */
        get: operations["getWs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/ws/plugins": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Open the live socket
         * @description A WebSocket with the subprotocol `bkg.v1`: how things are, and from then on what changes. A page that cannot set headers names `bkg.ticket.TICKET` as a further subprotocol.
         *
         *     Needs any credential, or a one-time ticket in its place.
         */
        get: operations["getWsPlugins"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/auth/ticket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Get a ticket for the live socket
         * @description Needs any credential.
         */
        post: operations["postAuthTicket"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/auth/login": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Log in
         * @description Browsers get the tokens as cookies; programs take them from the answer.
         *
         *     Needs no credential.
         */
        post: operations["postAuthLogin"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/auth/refresh": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Get new tokens for old ones
         * @description The old tokens are dead. A refresh token that was used before ends its login.
         *
         *     Needs no credential.
         */
        post: operations["postAuthRefresh"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/auth/logout": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Log out
         * @description Needs a login: keys open nothing here.
         */
        post: operations["postAuthLogout"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/auth/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show who the caller is
         * @description Needs any credential.
         */
        get: operations["getAuthMe"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /**
         * Change one's own name
         * @description Needs a login: keys open nothing here.
         */
        patch: operations["patchAuthMe"];
        trace?: never;
    };
    "/auth/password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Change one's own password
         * @description All other logins of the user end.
         *
         *     Needs a login: keys open nothing here.
         */
        post: operations["postAuthPassword"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/auth/sessions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List one's own logins
         * @description Needs a login: keys open nothing here.
         */
        get: operations["getAuthSessions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/auth/sessions/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * End one of one's own logins
         * @description Needs a login: keys open nothing here.
         */
        delete: operations["deleteAuthSessionsId"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List keys
         * @description Needs the scope `key:own`.
         */
        get: operations["getAdminKeys"];
        put?: never;
        /**
         * Make a key
         * @description Needs the scope `key:own`.
         */
        post: operations["postAdminKeys"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/keys/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Revoke a key
         * @description Needs the scope `key:own`.
         */
        delete: operations["deleteAdminKeysId"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/keys/{id}/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Give a key a new secret
         * @description Needs the scope `key:own`.
         */
        post: operations["postAdminKeysIdRotate"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/users": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List users
         * @description Needs the scope `admin`.
         */
        get: operations["getAdminUsers"];
        put?: never;
        /**
         * Make a user
         * @description Needs the scope `admin`.
         */
        post: operations["postAdminUsers"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/users/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Delete a user
         * @description The user's keys and logins go with it.
         *
         *     Needs the scope `admin`.
         */
        delete: operations["deleteAdminUsersId"];
        options?: never;
        head?: never;
        /**
         * Change a user
         * @description Needs the scope `admin`.
         */
        patch: operations["patchAdminUsersId"];
        trace?: never;
    };
    "/admin/users/{id}/password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Set a user's password
         * @description Needs the scope `admin`.
         */
        post: operations["postAdminUsersIdPassword"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/users/{id}/reset": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Make a user an administrator again
         * @description The way back in, for the root key alone. Makes the user if there is none of the name.
         *
         *     Needs the scope `admin`.
         */
        post: operations["postAdminUsersIdReset"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/roles": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List roles
         * @description Needs the scope `admin`.
         */
        get: operations["getAdminRoles"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/roles/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Make or change a role
         * @description Needs the scope `admin`.
         */
        put: operations["putAdminRolesName"];
        post?: never;
        /**
         * Delete a role
         * @description Needs the scope `admin`.
         */
        delete: operations["deleteAdminRolesName"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/sessions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List everybody's logins
         * @description Needs the scope `admin`.
         */
        get: operations["getAdminSessions"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/sessions/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * End a login
         * @description Needs the scope `admin`.
         */
        delete: operations["deleteAdminSessionsId"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/requests": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read what requests used
         * @description Needs the scope `audit:read`.
         */
        get: operations["getAdminRequests"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/requests/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show all that is known of a request
         * @description With the requests that plugins made on its behalf, and what plugins logged about it. A request is there once it has ended.
         *
         *     Needs the scope `audit:read`.
         */
        get: operations["getAdminRequestsId"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/usage": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read sums of what requests used
         * @description Every request to a plugin that has ended is in exactly one group. Money is by the prices of its time.
         *
         *     Needs the scope `audit:read`.
         */
        get: operations["getAdminUsage"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/usage": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read sums of what the caller's requests used
         * @description What was used with the key that asks, or by the user who has logged in.
         *
         *     Needs any credential.
         */
        get: operations["getApiUsage"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the audit log
         * @description Needs the scope `audit:read`.
         */
        get: operations["getAdminAudit"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read what the host counts and measures
         * @description In the text format of Prometheus (0.0.4), or as OpenMetrics (1.0.0) where `accept` wants that more.
         *
         *     Needs the scope `metrics`.
         */
        get: operations["getMetrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/backup/preview": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Say what a backup would take
         * @description Needs the scope `admin`.
         */
        get: operations["getAdminBackupPreview"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/backup": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Take a backup
         * @description Takes a login of the last five minutes, or the root key. The answer begins when all of it is there; one that is shorter than its `content-length` is no backup.
         *
         *     Needs the scope `admin`.
         */
        post: operations["postAdminBackup"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Say that the host lives
         * @description Needs no credential.
         */
        get: operations["getHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health/ready": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Say whether the host serves
         * @description Whether every plugin that starts with the host serves, and what else is wrong with the host.
         *
         *     Needs no credential.
         */
        get: operations["getHealthReady"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/ports": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List listeners
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminPorts"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/admin/system": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Show the host itself
         * @description Needs the scope `plugin:read`.
         */
        get: operations["getAdminSystem"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get this document
         * @description OpenAPI 3.1 of what the caller may use, the routes of plugins that are there now included.
         *
         *     Needs any credential.
         */
        get: operations["getOpenapiJson"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/docs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read this document
         * @description A page for people. Browsers without a login are shown how to get one.
         *
         *     Needs any credential.
         */
        get: operations["getDocs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description What all plugins cost. */
        AllTelemetry: {
            plugins: components["schemas"]["PluginTelemetry"][];
        };
        /** @description The body of every answer at and below `/v1/messages` that is an error. */
        AnthropicErrorBody: {
            /** @description `error`. */
            type: string;
            error: components["schemas"]["AnthropicErrorObject"];
            /** @description The `request-id` of the answer. */
            request_id: string | null;
        };
        /** @description What programs can rely on. */
        AnthropicErrorDetails: {
            /** @description What went wrong, as a word of the error table. */
            error_code: components["schemas"]["ErrorWord"];
            /** @description The parameter that was wrong. */
            param: string | null;
        } & {
            [key: string]: unknown;
        };
        /** @enum {string} */
        AnthropicErrorKind: "api_error" | "authentication_error" | "invalid_request_error" | "not_found_error" | "overloaded_error" | "permission_error" | "rate_limit_error" | "request_too_large" | "timeout_error";
        /** @description What went wrong, in the words of Anthropic's clients. */
        AnthropicErrorObject: {
            /** @description What kind of failure it is. */
            type: components["schemas"]["AnthropicErrorKind"];
            /** @description What happened, to what, and what to do next. */
            message: string;
            details: components["schemas"]["AnthropicErrorDetails"];
        };
        /** @description How an edit took effect. */
        Applied: "unchanged" | "hot" | "restarted" | "restarting" | "next-start" | "later";
        /** @description One try at having a request answered. */
        AttemptRecord: {
            /** @description Who was asked. */
            plugin: string;
            /** @description The model, as that plugin knows it. */
            model: string;
            /** @description The number of the instance that answered. */
            instance?: string | null;
            /**
             * Format: uint32
             * @description Milliseconds from the beginning of the request to that of the try.
             */
            beganMs: number;
            /**
             * Format: uint32
             * @description How many milliseconds it took, to the first part of the answer.
             */
            tookMs: number;
            /** @description `ok`, or the code of the error. */
            outcome: string;
        };
        /** @description A page of the audit log. */
        AuditEntries: {
            entries: components["schemas"]["AuditRow"][];
        };
        /** @description One row of the audit log. */
        AuditRow: {
            /**
             * Format: int64
             * @description Its number; the first is 1, and there are no gaps.
             */
            seq: number;
            /**
             * Format: date-time
             * @description When it was written.
             */
            at: string;
            /** @description What it says of its action. */
            kind: components["schemas"]["EntryKind"];
            /**
             * Format: uuid
             * @description The id that an intent shares with its end: the `operationId`. `None` for an action that was
             *     written together with its outcome.
             */
            intent: string | null;
            /** @description Whose action. */
            user: string;
            /** @description The API key that was used. */
            keyId: string | null;
            /** @description The login that was used. */
            sessionId: string | null;
            /** @description Where the request came from. */
            address: string | null;
            /** @description The action, in dotted words. */
            action: string;
            /** @description To what. */
            target: string;
            /** @description What else is worth knowing. */
            detail: unknown;
            /** @description The request that asked for it. */
            requestId: string | null;
            /** @description The row's code in hexadecimal; see `chain`. */
            mac: string;
        };
        /** @description How the files of somebody are taken. */
        BackupHow: "host" | "plugin" | "files" | "stopped";
        /** @description Something that a backup does not hold. */
        BackupLeftOut: {
            /** @description Where it stands. */
            path: string;
            /** @description Why. */
            why: components["schemas"]["BackupLeftOutWhy"];
            /** @description Of a key: what tells whether another file is the same, to those who have `audit.key`. */
            print?: string | null;
        };
        /** @description Why something is not in a backup. */
        BackupLeftOutWhy: "key" | "link" | "special";
        /** @description What a backup holds of the host or of one plugin. */
        BackupPart: {
            /** @description The plugin; none for the host itself. */
            plugin?: string | null;
            /** @description How its files are taken. */
            how: components["schemas"]["BackupHow"];
            /**
             * Format: uint64
             * @description How many they are; none while only the plugin knows.
             */
            files?: number | null;
            /**
             * Format: uint64
             * @description How many bytes they have.
             */
            bytes?: number | null;
            /** @description What else is worth knowing. */
            note?: string | null;
        };
        /** @description What a backup would be at this moment. */
        BackupPreview: {
            /** @description Whether it would hold keys. */
            withKeys: boolean;
            /** @description Whether it would hold the logs of plugins. */
            withLogs: boolean;
            /** @description Whose files, and how they are taken. */
            parts: components["schemas"]["BackupPart"][];
            /**
             * Format: uint64
             * @description About how many bytes, without what plugins write themselves.
             */
            bytes: number;
            /**
             * Format: uint64
             * @description How many bytes are free where it comes together.
             */
            free: number;
            /** @description What would not be in it. */
            leftOut: components["schemas"]["BackupLeftOut"][];
            /** @description What would not work after a restore of it alone. */
            lacks: string[];
        };
        /** @description What was asked and answered, redacted and cut; for keys that this is turned on for. */
        Bodies: {
            /** @description What was asked. */
            request: string | null;
            /** @description What was answered. */
            answer: string | null;
        };
        /** @description How much money may be spent in which time. */
        Budget: {
            /**
             * Format: double
             * @description How much, with at most six decimal places.
             */
            amount: number;
            /** @description In which time of UTC. */
            per: components["schemas"]["BudgetPeriod"];
        };
        /** @description The time that a budget is for. */
        BudgetPeriod: "day" | "month";
        /** @description What kind of credential a caller came with. */
        CallerKind: "root" | "key" | "session" | "other";
        /** @description The capabilities of a plugin. */
        Capabilities: {
            plugin: string;
            capabilities: components["schemas"]["CatalogueCapability"][];
        };
        /** @description A capability, as a caller sees it. */
        CatalogueCapability: {
            id: string;
            description: string | null;
            inputSchema: unknown;
            outputSchema: unknown;
            streaming: boolean;
            idempotent: boolean;
            sideEffect: boolean;
            /** Format: uint64 */
            timeoutMs: number | null;
            /** @description The scope that it needs. */
            scope: string;
            /** @description Whether the caller may use it. */
            allowed: boolean;
        };
        /** @description A plugin, as `GET /api/plugins/{name}` shows it. */
        CataloguePlugin: {
            name: string;
            /** @description The state in fewer words: `error` for `failed`, `backoff` and `unresponsive`. */
            status: string;
            state: components["schemas"]["State"];
            /** @description Why, for `plugin:read`. */
            reason: string | null;
            /** Format: date-time */
            since: string;
            description: string;
            version: string;
            type: string;
            author: string | null;
            category: string | null;
            tags: string[];
            /** @description When its author changed it last, as the author wrote it. */
            updated: string | null;
            /** @description What else must be there, as its author wrote it. */
            requirements: unknown[];
            /** @description How it is used, as its author wrote it. */
            example: unknown;
            capabilities: components["schemas"]["CatalogueCapability"][];
            models: components["schemas"]["Model"][];
            /** @description HTTP routes; their paths begin below `/api/plugins/{name}`. */
            routes: components["schemas"]["Route"][];
            tools: components["schemas"]["Tool"][];
            /** @description The JSON Schema of its settings, for `plugin:read`. */
            configSchema: unknown;
        };
        /** @description One place at which two entries differ. */
        Change: {
            /** @description Where: a JSON Pointer (RFC 6901) into the entry, such as `/settings/greeting`. */
            path: string;
            /** @description What was there; absent where nothing was. */
            from?: unknown;
            /** @description What is there now; absent where nothing is. */
            to?: unknown;
        };
        /** @description A chat that is to be completed. Members that are not named here reach the plugin as they are. */
        ChatRequest: {
            /** @description One of `/v1/models`. */
            model: string;
            /** @description The messages so far. */
            messages: {
                [key: string]: unknown;
            }[];
            /** @description Whether the answer comes in chunks. */
            stream?: boolean | null;
            /** @description What a stream has besides. */
            stream_options?: components["schemas"]["StreamOptions"] | null;
        } & {
            [key: string]: unknown;
        };
        /** @description Where a login came from. */
        Client: {
            /** @description Its address. */
            address: string | null;
            /** @description What it said of itself. */
            userAgent: string | null;
        };
        /** @description What differs between two revisions. */
        Comparison: {
            /**
             * Format: uint64
             * @description The first revision; 0 stands for the plugin's files alone.
             */
            from: number;
            /**
             * Format: uint64
             * @description The second one.
             */
            to: number;
            /** @description What the second has otherwise; secrets read as `{"$secret": true}`. */
            changes: components["schemas"]["Change"][];
        };
        /** @description A completion, as the plugin wrote it, or one chunk of it. */
        Completion: {
            /** @description Its id, the same in all chunks. */
            id: string;
            /** @description `chat.completion`, `chat.completion.chunk` or `text_completion`. */
            object: string;
            /**
             * Format: int64
             * @description When it was made, in seconds since 1970.
             */
            created: number;
            /** @description Which model answered. */
            model: string;
            /** @description The answers. */
            choices: {
                [key: string]: unknown;
            }[];
            /** @description How many tokens were used. */
            usage?: {
                [key: string]: unknown;
            } | null;
        } & {
            [key: string]: unknown;
        };
        /** @description A text that is to be completed. Members that are not named here reach the plugin as they are. */
        CompletionRequest: {
            /** @description One of `/v1/models`. */
            model: string;
            /** @description The text so far. */
            prompt: string | string[];
            /** @description Whether the answer comes in chunks. */
            stream?: boolean | null;
            /** @description What a stream has besides. */
            stream_options?: components["schemas"]["StreamOptions"] | null;
        } & {
            [key: string]: unknown;
        };
        /** @description What the host makes of a plugin's health. */
        Condition: "healthy" | "degraded" | "draining" | "down";
        /** @description One key of the host's configuration as it took effect. */
        ConfigKey: {
            /** @description The dotted name of the key. */
            key: string;
            /** @description The value; JSON output shows it in its own type. */
            value: unknown;
            /** @description Where it came from. */
            origin: components["schemas"]["ConfigOrigin"];
            /** @description What the key is for, in one line. */
            why: string;
            /** @description Whether the environment or a flag set it, which win over the file. */
            locked: boolean;
        };
        /** @description Where a value came from. */
        ConfigOrigin: {
            /** @constant */
            kind: "default";
        } | {
            /** @constant */
            kind: "file";
            /** @description The file. */
            path: string;
            /**
             * Format: uint
             * @description The line, from 1, on which the key stands.
             */
            line: number;
        } | {
            /** @constant */
            kind: "environment";
            /** @description Its name. */
            variable: string;
        } | {
            /** @constant */
            kind: "flag";
            /** @description Its name, with the dashes. */
            name: string;
        };
        /** @description What became of an edit. */
        ConfigOutcome: {
            /**
             * Format: uint64
             * @description The number of the revision that holds now.
             */
            revision: number;
            /** @description How it took effect. */
            applied: components["schemas"]["Applied"];
            /** @description Whether a process of the plugin still runs with something else. */
            restartNeeded: boolean;
            /** @description What was changed; secrets read as `{"$secret": true}`. */
            changes: components["schemas"]["Change"][];
            /** @description What would have become of it, where it was only tried; nothing was saved then. */
            dryRun?: components["schemas"]["ConfigTrial"] | null;
        };
        /** @description What would become of an edit. */
        ConfigTrial: {
            /** @description How it would take effect. */
            wouldBe: components["schemas"]["Applied"];
            /**
             * Format: uint
             * @description How many instances of the plugin run.
             */
            instances: number;
            /**
             * Format: uint
             * @description How many of them were asked what they think of the new settings, and would take them. 0 where the
             *     settings stay as they are, and where the plugin cannot be asked before they are in force.
             */
            asked: number;
        };
        /** @description How one launch is confined. */
        Confinement: {
            /** @description What tells which processes belong to the launch. */
            group: components["schemas"]["Grouping"];
            /** @description What enforces each limit of the entry; null where the entry sets none. */
            limits: components["schemas"]["LimitMeans"];
            /** @description What could not be done as wanted, one sentence each. */
            notes: string[];
        };
        /** @description What is to be counted: a request for a message without what bounds its answer. */
        CountRequest: {
            /** @description One of `/v1/models`. */
            model: string;
            /** @description The conversation so far. */
            messages: {
                [key: string]: unknown;
            }[];
            /** @description The tools that the model may want used. */
            tools?: {
                [key: string]: unknown;
            }[] | null;
        } & {
            [key: string]: unknown;
        };
        /** @description A user name and a password. */
        Credentials: {
            /** @description The user's name. */
            username: string;
            /** @description The user's password, of 72 bytes at most. */
            password: string;
        };
        /** @description A number for each plugin, as text `ping:12,tester:7`. A plugin that is not named is at its beginning. */
        Cursor: string;
        /** @description The frames of one instance that had no effect, counted since it registered. */
        DroppedFrames: {
            /**
             * Format: uint64
             * @description For requests that were given up before; nothing is wrong.
             */
            late: number;
            /**
             * Format: uint64
             * @description For requests that it was never asked, or has answered already.
             */
            unknownRequest: number;
            /**
             * Format: uint64
             * @description Requests under an id of which one is open.
             */
            duplicateRequest: number;
            /**
             * Format: uint64
             * @description Of a type that this version does not know.
             */
            unknownType: number;
            /**
             * Format: uint64
             * @description Not allowed for it, or not at that moment.
             */
            outOfPlace: number;
            /**
             * Format: uint64
             * @description Not readable: no JSON, not as their type says, or binary.
             */
            unreadable: number;
        };
        /** @description A vector. */
        Embedding: {
            /** @description `embedding`. */
            object: string;
            /**
             * Format: uint64
             * @description Which input it belongs to.
             */
            index: number;
            /** @description The vector. */
            embedding: number[] | string;
        };
        /** @description Texts that are to be embedded. Members that are not named here reach the plugin as they are. */
        EmbeddingRequest: {
            /** @description One of `/v1/models`. */
            model: string;
            /** @description What is to be embedded. */
            input: string | string[] | number[] | number[][];
            /** @description How vectors are written; `float` unless said. */
            encoding_format?: ("float" | "base64") | null;
        } & {
            [key: string]: unknown;
        };
        /** @description Vectors. */
        Embeddings: {
            /** @description `list`. */
            object: string;
            /** @description One for each input. */
            data: components["schemas"]["Embedding"][];
            /** @description Which model answered. */
            model: unknown;
            /** @description How many tokens were used. */
            usage: unknown;
        };
        /** @description What a row says of its action. */
        EntryKind: "intended" | "done" | "failed" | "unknown";
        /** @description Which places go back to what the files say. */
        EntryReset: {
            /** @description JSON Pointers into the entry, such as `/settings/greeting`. */
            paths: string[];
        };
        /** @description Which revision is to hold again. */
        EntryReturn: {
            /**
             * Format: uint64
             * @description Its number; 0 stands for the plugin's files alone. Unless said, what held before the newest.
             * @default null
             */
            revision: number | null;
        };
        /** @description An entry as operators see it. */
        EntryView: {
            /** @description The plugin's name. */
            plugin: string;
            /**
             * Format: uint64
             * @description The number of the saved revision; 0 where nothing was ever saved.
             */
            revision: number;
            /** @description The whole effective entry. Secrets read as `{"$secret": true, "id": …}`: sent back, they are kept. */
            entry: unknown;
            /** @description Where each value comes from, by its JSON Pointer. */
            origins: {
                [key: string]: components["schemas"]["LayerOrigin"];
            };
            /** @description What was saved on top of the files: a JSON Merge Patch (RFC 7396). */
            saved: unknown;
            /** @description The JSON Schema of `settings`. */
            configSchema: unknown;
            /** @description What the processes of the plugin run with. */
            live: components["schemas"]["LiveView"];
            /** @description Why what was saved does not fit to what the files say now; the plugin cannot run until it does. */
            misfit?: string | null;
        };
        /** @description The body of every answer that is an error. */
        ErrorBody: {
            error: components["schemas"]["ErrorObject"];
        };
        /** @enum {string} */
        ErrorKind: "authentication_error" | "insufficient_quota" | "invalid_request_error" | "permission_error" | "rate_limit_error" | "server_error";
        /** @description What went wrong. */
        ErrorObject: {
            /** @description What happened, to what, and what to do next. */
            message: string;
            /** @description What kind of failure it is, in OpenAI's words. */
            type: components["schemas"]["ErrorKind"];
            /** @description The parameter that was wrong. */
            param: string | null;
            /** @description What went wrong, as a word that programs can rely on. */
            code: components["schemas"]["ErrorWord"];
            /** @description Whatever else helps. */
            details?: unknown;
        };
        /** @enum {string} */
        ErrorWord: "invalid_request" | "unauthorized" | "forbidden" | "reauth_required" | "not_found" | "model_not_found" | "method_not_allowed" | "conflict" | "payload_too_large" | "unsupported_media_type" | "misdirected_request" | "invalid_config" | "rate_limited" | "quota_exceeded" | "cancelled" | "internal" | "plugin_error" | "plugin_disconnected" | "plugin_unavailable" | "overloaded" | "timeout" | "insufficient_storage";
        /** @description The events of one instance, counted since it registered. */
        EventFigures: {
            /** @description The topics that it subscribed to, also those that its entry does not let it hear of. */
            topics: string[];
            /**
             * Format: uint64
             * @description How many events it published.
             */
            published: number;
            /**
             * Format: uint64
             * @description How many were written to it.
             */
            delivered: number;
            /**
             * Format: uint
             * @description How many wait to be written.
             */
            waiting: number;
            /**
             * Format: uint64
             * @description How many it missed because it did not read fast enough.
             */
            missed: number;
            /**
             * Format: uint64
             * @description How many exceed the frame that it takes.
             */
            tooLarge: number;
            /**
             * Format: uint64
             * @description How often it said something about topics that it may not say.
             */
            refused: number;
        };
        /** @description What the plugin answered, in its own text. */
        Executed: {
            result: unknown;
        };
        /** @description Which plugin is run, and on what. */
        Execution: {
            /** @description Which plugin. */
            plugin: string;
            /** @description What it is given: a text or an object; nothing stands for an empty object. */
            data?: unknown;
            /**
             * Format: uint64
             * @description How long the plugin may take, in milliseconds; never longer than the host's own limit.
             */
            timeoutMs?: number | null;
        };
        /** @description What tells which processes belong to a launch. */
        Grouping: "cgroup-v2" | "cgroup-v1" | "process-group";
        /** @description What was written by hand about one plugin. */
        HandEdit: {
            /** @description The plugin. */
            plugin: string;
            /** @description What an import would change; secrets read as `{"$secret": true}`. */
            changes: components["schemas"]["Change"][];
            /** @description Why it cannot be imported. */
            violations: components["schemas"]["Violation"][];
        };
        /** @description How the host is, in one word. */
        Health: {
            status: components["schemas"]["HealthStatus"];
            /** @description What is not as it should be; left out where all is well. */
            reasons?: components["schemas"]["HealthReason"][];
        };
        /** @description What is wrong, in one word. */
        HealthReason: "plugins-starting" | "storage-full" | "storage-failing";
        /** @description The word. */
        HealthStatus: "ok" | "ready" | "starting";
        /** @description What the daemon's own process used and held at one moment. */
        HostSample: {
            /**
             * Format: date-time
             * @description When it was taken.
             */
            at: string;
            /**
             * Format: double
             * @description Processor time since the sample before (or since the start), in percent of one core.
             */
            cpuPercent: number;
            /**
             * Format: uint64
             * @description Resident memory in bytes.
             */
            rssBytes: number;
            /**
             * Format: uint64
             * @description Open descriptors.
             */
            fds: number;
            /**
             * Format: uint64
             * @description Threads.
             */
            threads: number;
        };
        /** @description What became of one plugin in an import. */
        Imported: {
            /** @description The plugin. */
            plugin: string;
            /** @description What became of its entry; absent where that failed. */
            outcome?: components["schemas"]["ConfigOutcome"] | null;
            /** @description Why it failed. */
            error?: string | null;
        };
        /** @description All that is known of a request. */
        InspectedRequest: {
            /**
             * Format: int64
             * @description Its number; later rows have higher ones.
             */
            id: number;
            /**
             * Format: date-time
             * @description When the request began.
             */
            at: string;
            /** @description The `x-request-id`. */
            requestId: string;
            /** @description Whose request. */
            user: string;
            /** @description The id of the API key that was used. */
            keyId: string | null;
            /** @description Who answered. */
            plugin: string | null;
            /** @description What was asked for. */
            capability: string;
            /** @description The model that was asked for. */
            model: string | null;
            /**
             * Format: uint64
             * @description How many tokens were read.
             */
            promptTokens: number | null;
            /**
             * Format: uint64
             * @description How many tokens were written.
             */
            completionTokens: number | null;
            /**
             * Format: uint32
             * @description Milliseconds until the first byte of a streamed answer.
             */
            firstByteMs: number | null;
            /**
             * Format: uint32
             * @description Milliseconds until the end.
             */
            totalMs: number;
            /** @description Whether the answer was streamed. */
            streamed: boolean;
            /** @description `ok`, or the code of the error. */
            outcome: string;
            /**
             * Format: uint16
             * @description The HTTP status.
             */
            status: number;
            /** @description The route that was asked, such as `POST /v1/chat/completions`; `null` for what a plugin asked. */
            route: string | null;
            /** @description The model that answered, as its plugin knows it. */
            servedModel: string | null;
            /** @description Whether the tokens are an estimate, since the plugin did not say how many there were. */
            estimated: boolean;
            /** @description What it cost, by the prices of that time; `null` for a model without a price. */
            cost: components["schemas"]["Money"] | null;
            /** @description The tries at having it answered, oldest first. */
            attempts: components["schemas"]["AttemptRecord"][];
            /** @description What went wrong. */
            error: string | null;
            /** @description What plugins asked for on its behalf. */
            asked_by_plugins: components["schemas"]["UsageRecord"][];
            /** @description What was asked and answered; `null` unless its key has `logBodies`. */
            bodies: components["schemas"]["Bodies"] | null;
            /** @description The lines about it in the logs of plugins, oldest first. */
            logs: components["schemas"]["LogLine"][];
            /** @description Whether there are more lines. */
            more_logs: boolean;
        };
        /** @description One registered instance of a plugin. */
        Instance: {
            /**
             * Format: uuid
             * @description The launch.
             */
            id: string;
            /**
             * Format: uint32
             * @description Its process, where the host started it.
             */
            pid: number | null;
            /**
             * @description What keeps its processes together, and what enforces its limits; null for one that the host did
             *     not start.
             */
            confinement: components["schemas"]["Confinement"] | null;
            /** @description How it feels. */
            status: components["schemas"]["Condition"];
            /**
             * Format: date-time
             * @description When it registered.
             */
            since: string;
            /**
             * Format: uint32
             * @description How many requests it has not answered yet.
             */
            inFlight: number;
            /**
             * @description Which contract it speaks: `base` or `extended`.
             * @enum {string}
             */
            contract: "base" | "extended";
            /**
             * @description How it is known to be of the launch: `process`, or `first-come` where the first that dialled was
             *     taken.
             * @enum {string}
             */
            identity: "process" | "first-come";
            /**
             * Format: uint16
             * @description Where it listens itself.
             */
            port: number | null;
            /** @description The figures that it last gave of itself. */
            telemetry: components["schemas"]["Telemetry"] | null;
            /** @description What it told others and heard of them. */
            events: components["schemas"]["EventFigures"];
            /** @description What it sent to no effect. */
            dropped: components["schemas"]["DroppedFrames"];
        };
        /** @description What is asked of the plugin. */
        Invocation: {
            /** @description One that the plugin offers. */
            capability: string;
            /**
             * @description What the capability takes; an empty object unless said.
             * @default {}
             */
            payload: unknown;
            /**
             * Format: uint64
             * @description How long the plugin may take, in milliseconds; never longer than the host's own limit.
             */
            timeoutMs?: number | null;
        };
        /** @description What the plugin answered, in its own text. */
        InvocationOutcome: {
            data: unknown;
        };
        /** @description A key, without its secret. */
        Key: {
            /** @description Its id. */
            id: string;
            /** @description What it is for. */
            name: string;
            /** @description Whose it is. */
            user: string;
            /** @description The user's id. */
            userId: string;
            /** @description What it may do, within what its user's role grants. */
            scopes: string[];
            /** @description The models that it reaches; null, all. */
            models: string[] | null;
            /** @description The plugins that it reaches; null, all. */
            plugins: string[] | null;
            /** @description How much it may use. */
            limits: components["schemas"]["UseLimits"];
            /** @description Whether what is asked and answered with it is written down. */
            logBodies: boolean;
            /**
             * Format: date-time
             * @description When it was made.
             */
            createdAt: string;
            /** @description Who made it. */
            createdBy: string;
            /**
             * Format: date-time
             * @description When it ends; null, never.
             */
            expiresAt: string | null;
            /**
             * Format: date-time
             * @description When it was used the last time.
             */
            lastUsedAt: string | null;
            /**
             * Format: date-time
             * @description When it was revoked.
             */
            revokedAt: string | null;
            /** @description Whether it opens anything. */
            status: components["schemas"]["KeyStatus"];
        };
        /** @description Whether a key opens anything. */
        KeyStatus: "active" | "expired" | "revoked" | "disabled";
        /** @description Keys, without their secrets. */
        Keys: {
            /** @description The keys. */
            keys: components["schemas"]["Key"][];
        };
        /** @description Where a value of an entry comes from. */
        LayerOrigin: "default" | "plugin.json" | "plugins.json" | "config.json" | "saved";
        /** @description What enforces the limits of a launch. */
        LimitMeans: {
            /** @description `memoryMb`. */
            memory: components["schemas"]["Means"] | null;
            /** @description `cpuPercent`. */
            cpu: components["schemas"]["Means"] | null;
            /** @description `pids`. */
            pids: components["schemas"]["Means"] | null;
            /** @description `files`. */
            files: components["schemas"]["Means"] | null;
        };
        /** @description A route where clients reach it. */
        LiveRoute: {
            /** @description The method. */
            method: string;
            /** @description The whole path, with `{name}` for a segment and `{*name}` for the rest. */
            path: string;
            /** @description Whose it is. */
            plugin: string;
            /** @description What answers it. */
            capability: string;
            /** @description Whether its answer is streamed. */
            streaming: boolean;
        };
        /** @description What the processes of a plugin run with. */
        LiveView: {
            /**
             * Format: uint64
             * @description The oldest revision that one of them runs with; absent where none runs.
             */
            revision: number | null;
            /** @description Whether one of them would run with something else if it were started now. */
            restartNeeded: boolean;
            /** @description Whether new settings can be pushed to all of them. */
            takesHotConfig: boolean;
        };
        /** @description What was lost since the host started, for telemetry. */
        LogCounters: {
            /**
             * Format: uint64
             * @description Lines that no file holds.
             */
            unwritten: number;
            /**
             * Format: uint64
             * @description Lines of instances that logged too fast: nowhere at all.
             */
            leftOut: number;
            /**
             * Format: uint64
             * @description Failed operations on log files.
             */
            diskErrors: number;
        };
        /** @description What the file is made of. */
        LogFormat: "text" | "ndjson";
        /** @description How much a log line matters. */
        LogLevel: "trace" | "debug" | "info" | "warn" | "error";
        /** @description A line of a plugin's log. */
        LogLine: {
            /**
             * Format: uint64
             * @description Counts this plugin's lines from 1, over all restarts of the host.
             */
            seq: number;
            /**
             * Format: date-time
             * @description When the host received it.
             */
            time: string;
            /** @description Whose log it belongs to. */
            plugin: string;
            /**
             * Format: uuid
             * @description Which launch it comes from or is about.
             */
            instance?: string | null;
            /** @description How much it matters. */
            level: components["schemas"]["LogLevel"];
            /** @description How it came. */
            stream: components["schemas"]["LogStream"];
            /** @description The text, without control characters. */
            message: string;
            /** @description Further facts from the plugin. */
            fields?: unknown;
            /** @description The request that it is about. */
            requestId?: string | null;
            /**
             * Format: date-time
             * @description When it happened, says the plugin.
             */
            pluginTime?: string | null;
        };
        /** @description Some lines of one plugin, oldest first. */
        LogPage: {
            /** @description The lines. */
            lines: components["schemas"]["LogLine"][];
            /**
             * Format: uint64
             * @description How many lines of the part that was looked at are no longer kept, or never reached the files.
             */
            missing: number;
            /**
             * Format: uint64
             * @description The number up to which the log was looked at: whoever wants what comes later asks for lines after
             *     this one.
             */
            reached: number;
            /** @description Where there may be more of what was asked for. */
            next?: components["schemas"]["NextPage"] | null;
        };
        /** @description How a line came. */
        LogStream: "bus" | "stdout" | "stderr" | "host";
        /** @description A login, with its tokens. */
        Login: {
            /** @description The credential: sent as `Authorization: Bearer TOKEN`. */
            token: string;
            /** @description Whose login. */
            user: string;
            /** @description The user's id. */
            userId: string;
            /** @description The user's role. */
            role: string;
            /** @description What the login opens. */
            scopes: string[];
            /** @description The login's id. */
            sessionId: string;
            /**
             * Format: int64
             * @description When the token ends, in milliseconds since 1970.
             */
            expires_at: number;
            /** @description What gets new tokens from `POST /auth/refresh`, once. */
            refreshToken: string;
            /**
             * Format: int64
             * @description When the refresh token ends, in milliseconds since 1970.
             */
            refresh_expires_at: number;
            /** @description Whether the password has to be changed before anything else. */
            mustChangePassword: boolean;
        };
        /** @description A key, with its secret. */
        MadeKey: {
            /** @description Its id. */
            id: string;
            /** @description What it is for. */
            name: string;
            /** @description Whose it is. */
            user: string;
            /** @description The user's id. */
            userId: string;
            /** @description What it may do, within what its user's role grants. */
            scopes: string[];
            /** @description The models that it reaches; null, all. */
            models: string[] | null;
            /** @description The plugins that it reaches; null, all. */
            plugins: string[] | null;
            /** @description How much it may use. */
            limits: components["schemas"]["UseLimits"];
            /** @description Whether what is asked and answered with it is written down. */
            logBodies: boolean;
            /**
             * Format: date-time
             * @description When it was made.
             */
            createdAt: string;
            /** @description Who made it. */
            createdBy: string;
            /**
             * Format: date-time
             * @description When it ends; null, never.
             */
            expiresAt: string | null;
            /**
             * Format: date-time
             * @description When it was used the last time.
             */
            lastUsedAt: string | null;
            /**
             * Format: date-time
             * @description When it was revoked.
             */
            revokedAt: string | null;
            /** @description Whether it opens anything. */
            status: components["schemas"]["KeyStatus"];
            /** @description The secret. */
            key: string;
            /** @description The secret, once more. */
            token: string;
        };
        /** @description Who the caller is: as the host sees it, and what the auth provider adds about a user. */
        Me: {
            /** @description What kind of credential was used. */
            kind: components["schemas"]["CallerKind"];
            /** @description The user's name; `root` for the root key. */
            user: string;
            /** @description The user's id. */
            userId?: string | null;
            /** @description The key that was used. */
            keyId?: string | null;
            /** @description The login that was used. */
            sessionId?: string | null;
            /** @description What the caller may do. */
            scopes: string[];
            /** @description The models that the key reaches; absent, all. */
            models?: string[] | null;
            /** @description The plugins that the key reaches; absent, all. */
            plugins?: string[] | null;
            /**
             * Format: date-time
             * @description When the credential ends.
             */
            expiresAt?: string | null;
            /** @description Whether the password has to be changed before anything else. */
            mustChangePassword?: boolean | null;
            /** @description The user's role. */
            role?: string | null;
            /** @description How the user is called. */
            displayName?: string | null;
            /**
             * Format: date-time
             * @description When the user was made.
             */
            createdAt?: string | null;
            /**
             * Format: date-time
             * @description When the user logged in the last time.
             */
            lastLoginAt?: string | null;
        };
        /** @description What enforces one limit. */
        Means: "cgroup-v2" | "cgroup-v1" | "rlimit" | "none";
        /** @description Some lines of many plugins, by time. */
        MergedPage: {
            /** @description The lines. */
            lines: components["schemas"]["LogLine"][];
            /**
             * Format: uint64
             * @description How many lines of the part that was looked at are no longer kept, or never reached the files.
             */
            missing: number;
            /** @description Up to where the logs were looked at: whoever wants what comes later asks for lines after this. */
            reached: components["schemas"]["Cursor"];
            /** @description Where there may be more of what was asked for. */
            next?: components["schemas"]["NextMergedPage"] | null;
        };
        /** @description An event of a message. */
        MessageEvent: {
            /** @description What happened; the name of the event. */
            type: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * @description What a message is wanted of. Members that are not named here are passed on if a chat knows them, and
         *     refused by name otherwise.
         */
        MessageRequest: {
            /** @description One of `/v1/models`. */
            model: string;
            /** @description The conversation so far. */
            messages: {
                [key: string]: unknown;
            }[];
            /**
             * Format: uint64
             * @description How many tokens the answer may have.
             */
            max_tokens: number;
            /** @description Whether the answer comes as events. */
            stream?: boolean | null;
            /** @description The tools that the model may want used. */
            tools?: {
                [key: string]: unknown;
            }[] | null;
            /** @description Texts at which the model stops. */
            stop_sequences?: string[] | null;
        } & {
            [key: string]: unknown;
        };
        /** @description What became of an edit that was given up. */
        MirrorDiscard: {
            /** @description Where what was written by hand is now; absent if there was nothing. */
            kept: string | null;
        };
        /** @description What became of an import. */
        MirrorImport: {
            /** @description Plugin by plugin, those that were changed. */
            imported: components["schemas"]["Imported"][];
            /** @description Where what was written by hand is now. */
            kept: string | null;
        };
        /** @description What is in the place of the mirror, as operators see it. */
        MirrorView: {
            /** @description Where it is. */
            path: string;
            /** @description Whether it is the host's own. */
            state: components["schemas"]["MirrorWord"];
            /** @description Why it cannot be read. */
            reason?: string | null;
            /** @description What was written by hand, where that differs from what is in effect. */
            edits: components["schemas"]["HandEdit"][];
        };
        /** @description Whether the mirror is the host's own. */
        MirrorWord: "same" | "missing" | "edited" | "unreadable";
        /** @description A model that a plugin serves. */
        Model: {
            /** @description The id that clients name; it may contain slashes. */
            id: string;
            /** @description Which capability answers for it: `llm.chat` or `llm.embed`. */
            capability: string;
            /** @description Whom `/v1/models` names as owner; the plugin, if absent. */
            ownedBy?: string | null;
            /**
             * Format: uint64
             * @description How many tokens fit, prompt and answer together.
             */
            contextLength?: number | null;
            /**
             * Format: uint64
             * @description The length of its embedding vectors.
             */
            dimensions?: number | null;
        };
        /** @description What the answers of a model say about it. */
        ModelHealth: "fit" | "resting" | "due" | "probed";
        /** @description A message of the model. */
        ModelMessage: {
            /** @description Its id. */
            id: string;
            /** @description `message`. */
            type: string;
            /** @description `assistant`. */
            role: string;
            /** @description Which model answered. */
            model: string;
            /** @description What it said, thought and wants used. */
            content: {
                [key: string]: unknown;
            }[];
            /** @description Why it went no further. */
            stop_reason: string | null;
            /** @description How many tokens were used. */
            usage: {
                [key: string]: unknown;
            };
        } & {
            [key: string]: unknown;
        };
        /**
         * @description The name of a model as clients or plugins write it: neither empty nor longer than 200 characters, and
         *     without white space at its ends or control characters.
         */
        ModelName: string;
        /** @description A response, or one event on its way. */
        ModelResponse: {
            /** @description Its id. */
            id: string;
            /** @description `response`. */
            object: string;
            /**
             * Format: int64
             * @description When it was made, in seconds since 1970.
             */
            created_at: number;
            /** @description `completed`, or `incomplete` for `incomplete_details`. */
            status: string;
            /** @description Which model answered. */
            model: string;
            /** @description What it said, thought and wants called. */
            output: {
                [key: string]: unknown;
            }[];
            /** @description How many tokens were used; null if the plugin does not say. */
            usage: {
                [key: string]: unknown;
            } | null;
        } & {
            [key: string]: unknown;
        };
        /** @description What a name stands for. */
        ModelRoute: {
            /** @description The models of which one is chosen by weight. */
            targets: components["schemas"]["RouteTarget"][];
            /** @description The models, or other routes, that are asked in this order when no target answers. */
            fallbacks?: components["schemas"]["ModelName"][];
            /**
             * Format: uint8
             * @description How many further attempts there are at the targets; unless said, one at each of the others.
             */
            retries?: number | null;
            /** @description What it is a route for; unless said, for whatever its models can do. */
            capability?: components["schemas"]["RoutedCapability"] | null;
        };
        /**
         * @description When a change takes effect.
         * @enum {string}
         */
        Moment: "now" | "later";
        /** @description An amount in the currency of the price table, with at most 6 decimal places. */
        Money: number;
        /** @description A key that is to be made. */
        NewKey: {
            /** @description What it is for. */
            name?: string | null;
            /** @description Whose it is to be, by name or id; without it, the caller's. */
            user?: string | null;
            /** @description What it may do. */
            scopes: string[];
            /** @description The models that it reaches: names, or prefixes with `*`. Without it, all. */
            models?: string[] | null;
            /** @description The plugins that it reaches: names, or prefixes with `*`. Without it, all. */
            plugins?: string[] | null;
            /** @description How much it may use. */
            limits?: components["schemas"]["UseLimits"] | null;
            /** @description Whether what is asked and answered with it is written down, redacted: `admin` alone may ask for that. */
            logBodies?: boolean | null;
            /**
             * Format: date-time
             * @description When it ends; null, never. Without it, after 90 days.
             */
            expiresAt?: string | null;
            /**
             * Format: uint64
             * @description After how many days it ends, instead.
             */
            expiresInDays?: number | null;
        };
        /** @description A password for a user. */
        NewPassword: {
            /** @description The password from now on. */
            newPassword: string;
            /** @description The password so far: needed for one's own. */
            oldPassword?: string | null;
            /** @description The one login of the user that goes on. */
            keepSession?: string | null;
        };
        /** @description A user that is to be made. */
        NewUser: {
            /** @description Its name, which logs in; `root`, `host` and `nobody` are the host's own. */
            name: string;
            /** @description Its role, which there is. */
            role: string;
            /** @description Its password, which has to be changed at the first login; without it, one is made. */
            password?: string | null;
            /** @description How the user is called. */
            displayName?: string | null;
        };
        /** @description Where the next page of merged logs begins. */
        NextMergedPage: {
            since: components["schemas"]["Cursor"];
        } | {
            before: components["schemas"]["Cursor"];
        };
        /** @description Where the next page begins. */
        NextPage: {
            /** Format: uint64 */
            since: number;
        } | {
            /** Format: uint64 */
            before: number;
        };
        /** @description The body of every answer below `/v1` that is an error. */
        OpenAiErrorBody: {
            error: components["schemas"]["OpenAiErrorObject"];
        };
        /** @description What went wrong, in the words of OpenAI's clients. */
        OpenAiErrorObject: {
            /** @description What happened, to what, and what to do next. */
            message: string;
            /** @description What kind of failure it is, in OpenAI's words. */
            type: components["schemas"]["ErrorKind"];
            /** @description The parameter that was wrong. */
            param: string | null;
            /** @description What went wrong, as a word that programs can rely on. */
            code: components["schemas"]["OpenAiErrorWord"];
            /** @description Whatever else helps. */
            details?: unknown;
        };
        /** @enum {string} */
        OpenAiErrorWord: "invalid_request" | "invalid_api_key" | "forbidden" | "reauth_required" | "not_found" | "model_not_found" | "method_not_allowed" | "conflict" | "payload_too_large" | "unsupported_media_type" | "misdirected_request" | "invalid_config" | "rate_limit_exceeded" | "insufficient_quota" | "cancelled" | "internal" | "plugin_error" | "plugin_disconnected" | "plugin_unavailable" | "overloaded" | "timeout" | "insufficient_storage";
        /** @description A request that was not answered. */
        OpenRequest: {
            /** @description What was asked for. */
            capability: string;
            /** @description The `x-request-id` of the HTTP request at its root, if there is one. */
            requestId?: string | null;
            /**
             * Format: uint64
             * @description How long the plugin had had it, in milliseconds.
             */
            ageMs: number;
        };
        /** @description A new name for oneself. */
        OwnName: {
            /** @description How the user is called. */
            displayName: string;
        };
        /** @description One's own password, and the one that takes its place. */
        OwnPassword: {
            /** @description The password so far. */
            oldPassword: string;
            /** @description The password from now on. */
            newPassword: string;
        };
        /** @description The HTTP routes of one plugin. */
        OwnRoutes: {
            /** @description Every route, with the whole path. */
            routes: components["schemas"]["LiveRoute"][];
            /**
             * Format: uint64
             * @description How many headers were left out of the plugin's answers since the host started.
             */
            droppedHeaders: number;
        };
        /** @description What an instance said of its own process. */
        OwnTelemetry: {
            /**
             * Format: uuid
             * @description The launch.
             */
            instance: string;
            /**
             * Format: date-time
             * @description When it said so.
             */
            at: string;
            /** @description The figures, as it sent them. */
            telemetry: components["schemas"]["Telemetry"];
        };
        /** @description A plugin, as `GET /admin/plugins/{name}` shows it. */
        Plugin: {
            /** @description Its name; of a folder that cannot be used, what it would be called. */
            name: string;
            /** @description Its state, or `shadowed` or `broken` for a folder that cannot be used. */
            status: components["schemas"]["PluginStatus"];
            /** @description One sentence on how the state came to be. */
            reason: string | null;
            /**
             * Format: date-time
             * @description Since when it is in this state.
             */
            since: string | null;
            /**
             * Format: uint32
             * @description How often it was started again since someone last started it.
             */
            restarts: number;
            /** @description What it is for, in its author's words. */
            description: string;
            /** @description Its version: as it registered, else as its entry says. */
            version: string;
            /** @description The real path of its folder. */
            folder: string;
            /** @description Whether it starts with the host. */
            autostart: boolean;
            /** @description When it is started again; null for a folder that cannot be used. */
            restart: components["schemas"]["RestartPolicy"] | null;
            /** @description What it registered, or may register while no instance is there. */
            capabilities: string[];
            /** @description The models that it serves. */
            models: components["schemas"]["Model"][];
            /** @description Its registered instances, oldest first. */
            instances: components["schemas"]["Instance"][];
            /** @description The newest sample of each launch that has processes, registered or not. */
            resources: components["schemas"]["Sample"][];
            /**
             * Format: uint
             * @description How many requests wait for a free place.
             */
            queued: number;
            /** @description Its effective entry; secrets read as `{"$secret": true}`. */
            config: {
                [key: string]: unknown;
            } | null;
            /**
             * Format: uint64
             * @description The number of its saved revision; 0 where nothing was saved.
             */
            revision: number;
            /** @description Whether a process of it runs with something else than this entry. */
            restartNeeded: boolean;
            /** @description The JSON Schema of its settings. */
            configSchema: {
                [key: string]: unknown;
            } | null;
            /** @description The swap of versions that is under way, else the last one since the host started. */
            swap: components["schemas"]["Swap"] | null;
            /** @description Why the folder is no usable plugin. */
            error?: string | null;
        };
        /** @description One change of the state of an instance. */
        PluginEvent: {
            /**
             * Format: uint64
             * @description Grows with every event of any plugin.
             */
            number: number;
            /**
             * Format: uuid
             * @description The run that it happened to, if there was one.
             */
            run?: string | null;
            /**
             * Format: uint32
             * @description Which of the plugin's instances, from 1.
             */
            seat: number;
            /**
             * Format: date-time
             * @description When.
             */
            at: string;
            /** @description The state that was entered. */
            state: string;
            /** @description One sentence on why. */
            reason?: string | null;
        };
        /** @description What happened to a plugin. */
        PluginEvents: {
            events: components["schemas"]["PluginEvent"][];
            /**
             * Format: uint64
             * @description How much of what happened to plugins could not be kept since the host started.
             */
            missed: number;
        };
        /** @description One run with all that is known of it. */
        PluginRun: {
            /**
             * Format: uuid
             * @description The launch: what logs and figures call `instance`.
             */
            id: string;
            /** @description Whose run it is. */
            plugin: string;
            /**
             * Format: uint32
             * @description Which of the plugin's instances it was, from 1.
             */
            seat: number;
            /** @description Its version: as it registered, else as its entry says. */
            version: string;
            /**
             * Format: uint64
             * @description The saved revision of the entry that it was started with; 0 where nothing was saved.
             */
            revision: number;
            /**
             * Format: uint32
             * @description Its first process.
             */
            pid: number;
            /**
             * Format: date-time
             * @description When its process was started.
             */
            startedAt: string;
            /**
             * Format: date-time
             * @description When it registered first.
             */
            registeredAt?: string | null;
            /**
             * Format: date-time
             * @description When nothing was left of it; not known of one that is lost.
             */
            endedAt?: string | null;
            /** @description What became of it. */
            outcome: components["schemas"]["RunOutcome"];
            /** @description How its first process ended. */
            exit?: components["schemas"]["RunExit"] | null;
            /** @description One sentence on why it ended. */
            reason?: string | null;
            /**
             * Format: uint32
             * @description How often its instance had been started again by then, since someone last started it.
             */
            restarts: number;
            /** @description What bounds it and keeps it together. */
            mechanism?: {
                [key: string]: unknown;
            } | null;
            /**
             * @description The last lines that it wrote on standard error, 20 at most, the oldest first.
             * @default []
             */
            lastStderr: string[];
            /**
             * @description The requests that it had not answered when its session ended, 32 at most, the oldest first.
             * @default []
             */
            inFlight: components["schemas"]["OpenRequest"][];
            /**
             * @description What its processes used, 120 points at most, the oldest first.
             * @default []
             */
            resources: components["schemas"]["ResourcePoint"][];
            /** @description The runs of the plugin before this one, newest first. */
            earlier: components["schemas"]["Run"][];
        };
        /** @description Runs of a plugin. */
        PluginRuns: {
            runs: components["schemas"]["Run"][];
            /**
             * Format: uint64
             * @description How much of what happened to plugins could not be kept since the host started.
             */
            missed: number;
        };
        /** @description The states of a plugin, and those of a folder that cannot be used. */
        PluginStatus: "stopped" | "preparing" | "starting" | "running" | "degraded" | "draining" | "unresponsive" | "backoff" | "failed" | "broken" | "shadowed";
        /** @description What is known of one plugin: the host's samples and the plugin's own figures. */
        PluginTelemetry: {
            /** @description Whose. */
            plugin: string;
            /**
             * Format: uint64
             * @description How often the host measures, in milliseconds.
             */
            intervalMs: number;
            /** @description The samples, the oldest first. */
            samples: components["schemas"]["Sample"][];
            /** @description What its registered instances last said of themselves. */
            own: components["schemas"]["OwnTelemetry"][];
        };
        /** @description Every listener of the host and of its plugins. */
        Ports: {
            /**
             * Format: uint16
             * @description Where HTTP is served.
             */
            api: number;
            /**
             * Format: uint16
             * @description Where plugins come that the host did not start.
             */
            bus: number;
            /** @description Where HTTP is served to other machines. */
            listen?: string[];
            /** @description Where plugins themselves listen, if they do. */
            plugins: {
                [key: string]: number | null;
            };
            /**
             * Format: date-time
             * @description When the host started.
             */
            startedAt: string;
        };
        /** @description What gets new tokens. */
        Refresh: {
            /** @description The refresh token; browsers have it in a cookie instead. */
            refreshToken?: string | null;
        };
        /** @description A page of what requests used. */
        RequestRecords: {
            requests: components["schemas"]["UsageRecord"][];
            /**
             * Format: uint64
             * @description How many rows could not be written since the host started.
             */
            lost: number;
        };
        /** @description What the processes of a run used and held at one moment. */
        ResourcePoint: {
            /**
             * Format: date-time
             * @description When.
             */
            at: string;
            /**
             * Format: double
             * @description Processor time in percent of one core.
             */
            cpu: number;
            /**
             * Format: uint64
             * @description Resident memory in bytes.
             */
            rss: number;
            /**
             * Format: uint64
             * @description Open descriptors.
             */
            fds: number;
            /**
             * Format: uint64
             * @description Threads.
             */
            threads: number;
        };
        /** @description An event of a response. */
        ResponseEvent: {
            /** @description What happened; the name of the event. */
            type: string;
            /**
             * Format: uint64
             * @description Which event it is, from 0.
             */
            sequence_number: number;
        } & {
            [key: string]: unknown;
        };
        /**
         * @description What a response is wanted of. Members that are not named here are passed on if a chat knows them, and
         *     refused by name otherwise.
         */
        ResponseRequest: {
            /** @description One of `/v1/models`. */
            model: string;
            /** @description The conversation so far: a text, or all its items. */
            input: string | {
                [key: string]: unknown;
            }[];
            /** @description What the model is told first. */
            instructions?: string | null;
            /** @description Whether the answer comes as events. */
            stream?: boolean | null;
            /** @description The functions that the model may want called. */
            tools?: {
                [key: string]: unknown;
            }[] | null;
            /**
             * Format: uint64
             * @description How many tokens the answer may have.
             */
            max_output_tokens?: number | null;
            /** @description Nothing is kept: only false can be honoured. */
            store?: boolean | null;
        } & {
            [key: string]: unknown;
        };
        /** @description When a plugin is started again after it ended. */
        RestartPolicy: "always" | "on-failure" | "never";
        /** @description A revision as operators see it. */
        RevisionView: {
            /**
             * Format: uint64
             * @description Its number, from 1 on.
             */
            revision: number;
            /** @description Who saved it. */
            author: string;
            /**
             * Format: date-time
             * @description When.
             */
            at: string;
            /** @description What the author said about it. */
            note: string;
            /** @description What it changed against the revision before, seen with the files of now. */
            changes: components["schemas"]["Change"][];
        };
        /** @description A role. */
        Role: {
            /** @description Its name. */
            name: string;
            /** @description What it grants. */
            scopes: string[];
            /** @description Whether it cannot be deleted. */
            builtIn: boolean;
            /**
             * Format: uint64
             * @description How many users have it.
             */
            users: number;
        };
        /** @description What a role is to grant. */
        RoleScopes: {
            /** @description The scopes. */
            scopes: string[];
        };
        /** @description Roles. */
        Roles: {
            /** @description The roles. */
            roles: components["schemas"]["Role"][];
        };
        /** @description How a key gets a new secret. */
        Rotation: {
            /**
             * Format: uint64
             * @description How many seconds the old secret still works; 0 unless said.
             */
            graceSeconds?: number | null;
        };
        /** @description An HTTP route bound to a capability. */
        Route: {
            /** @description The HTTP method, in capitals. */
            method: string;
            /**
             * @description The path below the plugin's prefix; `{name}` stands for one segment, `{*name}` at the end for
             *     all that is left.
             */
            path: string;
            /** @description What answers it. */
            capability: string;
            /** @description Whether the answer is streamed. */
            streaming?: boolean;
        };
        /** @description One of the models that a route chooses from. */
        RouteTarget: {
            /** @description The model, as its id or as `plugin/id`. */
            model: components["schemas"]["ModelName"];
            /**
             * Format: uint32
             * @description How often it is chosen, in proportion to the others; 0 means never.
             */
            weight?: number;
        };
        /** @description What a route may be for. */
        RoutedCapability: "llm.chat" | "llm.embed";
        /** @description A model of a plugin. */
        RoutedModel: {
            plugin: string;
            /** @description The model, as the plugin knows it. */
            model: string;
        };
        /** @description A model that was looked at. */
        RoutingCandidate: {
            /** @description The name that the route, or the request, has for it. */
            named: string;
            /** @description Who offers it; `null` if nobody does. */
            plugin: string | null;
            /** @description The model, as that plugin knows it; `null` if nobody offers it. */
            model: string | null;
            /** @description Why it was looked at. */
            part: components["schemas"]["RoutingPart"];
            /**
             * Format: uint32
             * @description The weight of a target.
             */
            weight: number | null;
            /**
             * Format: double
             * @description How many of 100 requests begin here, as things are.
             */
            percent: number | null;
            /**
             * Format: uint
             * @description The place in the order of attempts, from 1; `null` if it would not be asked.
             */
            place: number | null;
            /** @description What its answers say about it. */
            health: components["schemas"]["ModelHealth"] | null;
            /**
             * Format: uint32
             * @description How many failures in a row there were.
             */
            failures: number | null;
            /**
             * Format: uint64
             * @description For how long it is left alone, in milliseconds.
             */
            restingForMs: number | null;
            /** @description Why it would not be asked, or only for want of another; `null` if it would. */
            whyNot: string | null;
        };
        /** @description What would become of a request that names a model. */
        RoutingDecision: {
            /** @description The name that the request would have. */
            model: string;
            /** @description What it would ask for. */
            capability: string;
            /**
             * Format: uint64
             * @description The revision of the routes.
             */
            revision: number;
            /** @description The route of that name; `null` if it is a model's own. */
            route: string | null;
            /** @description Who would be asked first; `null` if nobody could be. */
            chosen: components["schemas"]["RoutedModel"] | null;
            /** @description Whether that one rests or cannot be reached, and would be asked for want of another. */
            lastResort: boolean;
            /**
             * Format: uint
             * @description How many further attempts there would be at the targets.
             */
            retries: number;
            /** @description Everything that was looked at, as the route lists it. */
            candidates: components["schemas"]["RoutingCandidate"][];
            /** @description Why nobody could be asked; `null` if somebody could. */
            problem: string | null;
        };
        /** @description Which models answer for which names. */
        RoutingDocument: {
            /** @description The routes, by the name that clients ask for. */
            routes: {
                [key: string]: components["schemas"]["ModelRoute"];
            };
        };
        /** @description Why a model is looked at. */
        RoutingPart: "model" | "target" | "fallback";
        /** @description The routes, and where they come from. */
        RoutingTable: {
            /**
             * Format: uint64
             * @description How often routes were saved; 0 means never, and that those of the configuration file hold.
             */
            revision: number;
            /**
             * Format: date-time
             * @description When they were saved; `null` for those of the configuration file.
             */
            savedAt: string | null;
            /** @description The routes, by the name that clients ask for. */
            routes: {
                [key: string]: components["schemas"]["ModelRoute"];
            };
        };
        /** @description One run of a plugin's process, as lists show it. */
        Run: {
            /**
             * Format: uuid
             * @description The launch: what logs and figures call `instance`.
             */
            id: string;
            /** @description Whose run it is. */
            plugin: string;
            /**
             * Format: uint32
             * @description Which of the plugin's instances it was, from 1.
             */
            seat: number;
            /** @description Its version: as it registered, else as its entry says. */
            version: string;
            /**
             * Format: uint64
             * @description The saved revision of the entry that it was started with; 0 where nothing was saved.
             */
            revision: number;
            /**
             * Format: uint32
             * @description Its first process.
             */
            pid: number;
            /**
             * Format: date-time
             * @description When its process was started.
             */
            startedAt: string;
            /**
             * Format: date-time
             * @description When it registered first.
             */
            registeredAt?: string | null;
            /**
             * Format: date-time
             * @description When nothing was left of it; not known of one that is lost.
             */
            endedAt?: string | null;
            /** @description What became of it. */
            outcome: components["schemas"]["RunOutcome"];
            /** @description How its first process ended. */
            exit?: components["schemas"]["RunExit"] | null;
            /** @description One sentence on why it ended. */
            reason?: string | null;
            /**
             * Format: uint32
             * @description How often its instance had been started again by then, since someone last started it.
             */
            restarts: number;
            /** @description What bounds it and keeps it together. */
            mechanism?: {
                [key: string]: unknown;
            } | null;
        };
        /** @description How the first process of a run ended. */
        RunExit: {
            /**
             * Format: int32
             * @description Its exit code, if it ended by itself.
             */
            code?: number | null;
            /**
             * Format: int32
             * @description The number of the signal that ended it.
             */
            signal?: number | null;
            /**
             * @description Whether it was killed while memory ran out.
             * @default false
             */
            oom: boolean;
            /** @description The same in words. */
            text: string;
        };
        /** @description What became of a run. */
        RunOutcome: "running" | "stopped" | "crashed" | "replaced" | "swapped" | "rolled-back" | "lost";
        /** @description What the processes of one launch used and held at one moment, added up. */
        Sample: {
            /**
             * Format: uint64
             * @description Grows by one with every sample of any plugin while the daemon runs, from 1.
             */
            seq: number;
            /**
             * Format: date-time
             * @description When it was taken.
             */
            at: string;
            /** @description Whose launch it is. */
            plugin: string;
            /**
             * Format: uuid
             * @description The launch.
             */
            instance: string;
            /**
             * Format: double
             * @description Processor time since the sample before (or since the launch began), in percent of one core: two
             *     busy cores are 200.
             */
            cpuPercent: number;
            /**
             * Format: uint64
             * @description Resident memory in bytes. What processes share is counted for each of them.
             */
            rssBytes: number;
            /**
             * Format: uint64
             * @description Open descriptors; those of processes that may not be looked into are left out.
             */
            fds: number;
            /**
             * Format: uint64
             * @description Threads.
             */
            threads: number;
            /**
             * Format: uint64
             * @description Processes that are alive.
             */
            processes: number;
        };
        /** @description A model that a plugin serves. */
        ServedModel: {
            id: string;
            /** @description `model`. */
            object: string;
            /**
             * Format: int64
             * @description Since when it can be used, in seconds since 1970.
             */
            created: number;
            /** @description Who offers it. */
            owned_by: string;
        };
        /** @description The models that a caller may use. */
        ServedModels: {
            /** @description `list`. */
            object: string;
            data: components["schemas"]["ServedModel"][];
        };
        /** @description A login that has not ended. */
        Session: {
            /** @description Its id. */
            id: string;
            /** @description Whose it is. */
            user: string;
            /** @description The user's id. */
            userId: string;
            /**
             * Format: date-time
             * @description When it began.
             */
            createdAt: string;
            /**
             * Format: date-time
             * @description When it was used the last time.
             */
            lastUsedAt: string | null;
            /**
             * Format: date-time
             * @description When it ends unless it is renewed.
             */
            expiresAt: string;
            /** @description Where it came from. */
            client: components["schemas"]["Client"];
        };
        /** @description Logins that have not ended. */
        Sessions: {
            /** @description The logins. */
            sessions: components["schemas"]["Session"][];
        };
        /** @description A share of requests and how long it lasts. */
        ShareStory: {
            /**
             * Format: uint8
             * @description How many of 100 requests.
             */
            percent: number;
            /**
             * Format: uint64
             * @description For how long, in milliseconds.
             */
            observeMs: number;
        };
        /** @description How a plugin stands. */
        Standing: {
            name: string;
            /** @description The state in fewer words: `error` for `failed`, `backoff` and `unresponsive`. */
            status: string;
            state: components["schemas"]["State"];
            /** @description Why, for `plugin:read`. */
            reason: string | null;
            /** Format: date-time */
            since: string;
        };
        /** @description The states of a plugin, as in the operating documentation. */
        State: "stopped" | "preparing" | "starting" | "running" | "degraded" | "draining" | "unresponsive" | "backoff" | "failed";
        /** @description Whether changes can be written to the data directory. */
        Storage: {
            condition: components["schemas"]["StorageCondition"];
            /** @description What the disk said, where it fails. */
            reason?: string | null;
            /**
             * Format: uint64
             * @description How many rows of what requests used were lost since the start.
             */
            usageLost: number;
        };
        /** @description The same in one word. */
        StorageCondition: "sound" | "full" | "failing";
        /** @description What a stream has besides. */
        StreamOptions: {
            /** @description Whether the last chunk says what was used. */
            include_usage?: boolean | null;
        } & {
            [key: string]: unknown;
        };
        /** @description A swap as operators see it: the one that is under way, else the last one. */
        Swap: {
            /**
             * Format: uint64
             * @description Its number, counted for each plugin since the host started.
             */
            number: number;
            /** @description How far it is, or how it ended. */
            state: components["schemas"]["SwapState"];
            /** @description Why it was ordered. */
            why: string;
            /**
             * Format: date-time
             * @description Since when it is in this state.
             */
            since: string;
            /** @description The share of requests that the new version is tried with. */
            share?: components["schemas"]["ShareStory"] | null;
            /** @description The version before. */
            from?: components["schemas"]["VersionStory"] | null;
            /** @description The version that is to take over. */
            to?: components["schemas"]["VersionStory"] | null;
            /** @description One sentence on what it waits for, or why it was rolled back. */
            reason?: string | null;
            /**
             * Format: uint32
             * @description How many requests the version before had not answered when it was ended.
             */
            cut?: number | null;
        };
        /** @description How far a swap is, or how it ended. */
        SwapState: "starting" | "sharing" | "holding" | "draining" | "swapped" | "rolled-back" | "restarted" | "superseded";
        /** @description The daemon, as it is at this moment. */
        System: {
            version: string;
            /** Format: date-time */
            startedAt: string;
            /** Format: uint64 */
            uptimeSeconds: number;
            /** Format: uint32 */
            pid: number;
            dataDir: string;
            /** @description What its own process costs; `null` until it was measured for the first time. */
            process: components["schemas"]["HostSample"] | null;
            /** @description Whether changes can be written to the data directory. */
            storage: components["schemas"]["Storage"];
            /** @description What was lost of the logs of plugins. */
            logs: components["schemas"]["LogCounters"];
            /** @description Every key in the order of `config/bkg.toml`. */
            config: components["schemas"]["ConfigKey"][];
        };
        /** @description `telemetry`: figures about the plugin's own process. */
        Telemetry: {
            /** @description The plugin's name. */
            plugin?: string | null;
            /**
             * Format: double
             * @description Processor time, in percent of one core. What is no number reads as absent.
             */
            cpu?: number | null;
            /**
             * Format: double
             * @description Resident memory in bytes. What is no number reads as absent.
             */
            mem_bytes?: number | null;
        } & {
            [key: string]: unknown;
        };
        /** @description What opens one socket. */
        Ticket: {
            /** @description To be named as the subprotocol `bkg.ticket.TICKET`. */
            ticket: string;
            /**
             * Format: date-time
             * @description From when on it opens nothing.
             */
            expiresAt: string;
        };
        /** @description How many tokens a prompt has. */
        TokenCount: {
            /**
             * Format: uint64
             * @description The number.
             */
            input_tokens: number;
            /** @description That it is an estimate: always. */
            estimated: boolean;
        };
        /** @description A function that a language model may call. */
        Tool: {
            /** @description The function's name. */
            name: string;
            /**
             * @description What it is for, in words that the model reads.
             * @default
             */
            description: string;
            /** @description JSON Schema of its arguments. */
            parameters?: unknown;
            /** @description Whether it changes something, so that someone must approve it. */
            sideEffect?: boolean;
            /** @description What answers it. */
            capability: string;
        };
        /** @description Sums of what requests used. */
        UsageAnswer: {
            by: components["schemas"]["UsageGroup"];
            /**
             * Format: date-time
             * @description When the first hour begins.
             */
            from: string;
            /**
             * Format: date-time
             * @description Up to when.
             */
            to: string;
            /** @description What costs are in. */
            currency: string;
            /** @description Days and hours from the newest, others by tokens. */
            groups: components["schemas"]["UsageOfGroup"][];
            /** @description Whether there are more groups: ask with `offset`. */
            more: boolean;
            /** @description Of all groups together. */
            total: components["schemas"]["UsageSum"];
            /**
             * Format: uint64
             * @description How many requests are missing from all sums, since their rows could not be written.
             */
            lost: number;
        };
        /** @description What sums are sums of. */
        UsageGroup: "key" | "user" | "model" | "plugin" | "day" | "hour";
        /** @description What the requests of one group used. */
        UsageOfGroup: {
            /**
             * @description The key's id, the user, the model, the plugin, or when the day or the hour began; `null` for requests
             *     without it.
             */
            name: string | null;
            /**
             * Format: uint64
             * @description How many requests there were.
             */
            requests: number;
            /**
             * Format: uint64
             * @description How many of them did not end well.
             */
            failed: number;
            /**
             * Format: uint64
             * @description For how many of them tokens are estimates.
             */
            estimated: number;
            /**
             * Format: uint64
             * @description How many tokens were read.
             */
            promptTokens: number;
            /**
             * Format: uint64
             * @description How many tokens were written.
             */
            completionTokens: number;
            /** @description What they cost, by the prices of their time. */
            cost: components["schemas"]["Money"];
        };
        /** @description One row, as it is read. */
        UsageRecord: {
            /**
             * Format: int64
             * @description Its number; later rows have higher ones.
             */
            id: number;
            /**
             * Format: date-time
             * @description When the request began.
             */
            at: string;
            /** @description The `x-request-id`. */
            requestId: string;
            /** @description Whose request. */
            user: string;
            /** @description The id of the API key that was used. */
            keyId: string | null;
            /** @description Who answered. */
            plugin: string | null;
            /** @description What was asked for. */
            capability: string;
            /** @description The model that was asked for. */
            model: string | null;
            /**
             * Format: uint64
             * @description How many tokens were read.
             */
            promptTokens: number | null;
            /**
             * Format: uint64
             * @description How many tokens were written.
             */
            completionTokens: number | null;
            /**
             * Format: uint32
             * @description Milliseconds until the first byte of a streamed answer.
             */
            firstByteMs: number | null;
            /**
             * Format: uint32
             * @description Milliseconds until the end.
             */
            totalMs: number;
            /** @description Whether the answer was streamed. */
            streamed: boolean;
            /** @description `ok`, or the code of the error. */
            outcome: string;
            /**
             * Format: uint16
             * @description The HTTP status.
             */
            status: number;
            /** @description The route that was asked, such as `POST /v1/chat/completions`; `null` for what a plugin asked. */
            route: string | null;
            /** @description The model that answered, as its plugin knows it. */
            servedModel: string | null;
            /** @description Whether the tokens are an estimate, since the plugin did not say how many there were. */
            estimated: boolean;
            /** @description What it cost, by the prices of that time; `null` for a model without a price. */
            cost: components["schemas"]["Money"] | null;
            /** @description The tries at having it answered, oldest first. */
            attempts: components["schemas"]["AttemptRecord"][];
            /** @description What went wrong. */
            error: string | null;
        };
        /** @description What some requests used together. */
        UsageSum: {
            /**
             * Format: uint64
             * @description How many requests there were.
             */
            requests: number;
            /**
             * Format: uint64
             * @description How many of them did not end well.
             */
            failed: number;
            /**
             * Format: uint64
             * @description For how many of them tokens are estimates.
             */
            estimated: number;
            /**
             * Format: uint64
             * @description How many tokens were read.
             */
            promptTokens: number;
            /**
             * Format: uint64
             * @description How many tokens were written.
             */
            completionTokens: number;
            /** @description What they cost, by the prices of their time. */
            cost: components["schemas"]["Money"];
        };
        /** @description How much a key or a user may use; what is not said is not limited. */
        UseLimits: {
            /**
             * Format: uint32
             * @description Requests in any sixty seconds.
             */
            requestsPerMinute?: number | null;
            /**
             * Format: uint64
             * @description Tokens of models in any sixty seconds.
             */
            tokensPerMinute?: number | null;
            /**
             * Format: uint64
             * @description Tokens of models in a day of UTC.
             */
            tokensPerDay?: number | null;
            /**
             * Format: uint32
             * @description Requests that plugins are answering at a time.
             */
            concurrentRequests?: number | null;
            /**
             * Format: uint32
             * @description Streams among them.
             */
            concurrentStreams?: number | null;
            /**
             * Format: uint64
             * @description Tokens that are set aside for an answer whose request does not say how long it may be.
             */
            maxTokens?: number | null;
            /** @description Money, by the host's prices. */
            budget?: components["schemas"]["Budget"] | null;
        };
        /** @description A user. */
        User: {
            /** @description Its id. */
            id: string;
            /** @description Its name, which logs in. */
            name: string;
            /** @description How the user is called. */
            displayName: string;
            /** @description The user's role. */
            role: string;
            /** @description What the role grants. */
            scopes: string[];
            /** @description Whether nothing of the user's opens anything. */
            disabled: boolean;
            /** @description Whether the password has to be changed before anything else. */
            mustChangePassword: boolean;
            /**
             * Format: date-time
             * @description When the user was made.
             */
            createdAt: string;
            /**
             * Format: date-time
             * @description When the user logged in the last time.
             */
            lastLoginAt: string | null;
            /** @description How much all keys and logins of the user may use together. */
            limits: components["schemas"]["UseLimits"];
            /**
             * Format: uint64
             * @description How many keys work or could.
             */
            keys: number;
            /**
             * Format: uint64
             * @description How many logins have not ended.
             */
            sessions: number;
        };
        /** @description What of a user is to be different. */
        UserChange: {
            /** @description Its role, which there is. */
            role?: string | null;
            /** @description Whether nothing of the user's opens anything. */
            disabled?: boolean | null;
            /** @description How the user is called. */
            displayName?: string | null;
            /**
             * @description How much all keys and logins of the user may use together, instead of what was said before; null
             *     lifts all limits.
             */
            limits?: components["schemas"]["UseLimits"] | null;
        };
        /** @description How an administrator gets back in. */
        UserReset: {
            /** @description The password from now on; without it, one is made. */
            password?: string | null;
        };
        /** @description A user, with the password that was made. */
        UserWithPassword: {
            /** @description Its id. */
            id: string;
            /** @description Its name, which logs in. */
            name: string;
            /** @description How the user is called. */
            displayName: string;
            /** @description The user's role. */
            role: string;
            /** @description What the role grants. */
            scopes: string[];
            /** @description Whether nothing of the user's opens anything. */
            disabled: boolean;
            /** @description Whether the password has to be changed before anything else. */
            mustChangePassword: boolean;
            /**
             * Format: date-time
             * @description When the user was made.
             */
            createdAt: string;
            /**
             * Format: date-time
             * @description When the user logged in the last time.
             */
            lastLoginAt: string | null;
            /** @description How much all keys and logins of the user may use together. */
            limits: components["schemas"]["UseLimits"];
            /**
             * Format: uint64
             * @description How many keys work or could.
             */
            keys: number;
            /**
             * Format: uint64
             * @description How many logins have not ended.
             */
            sessions: number;
            /** @description The password, if one was made: shown this once. */
            password?: string | null;
        };
        /** @description Users. */
        Users: {
            /** @description The users. */
            users: components["schemas"]["User"][];
        };
        /** @description A version of a plugin. */
        VersionStory: {
            /** @description As it registered, else as its entry says; empty where neither says. */
            version: string;
            /**
             * Format: uint64
             * @description The revision of its entry; 0 where nothing was saved.
             */
            revision: number;
        };
        /** @description One place that does not keep to the rules. */
        Violation: {
            /** @description Where: a JSON Pointer (RFC 6901) into the entry, such as `/settings/greeting`. */
            path: string;
            /** @description What is wrong there. */
            message: string;
        };
        /** @description A revision with all that it held. */
        WholeRevision: {
            /**
             * Format: uint64
             * @description Its number, from 1 on.
             */
            revision: number;
            /** @description Who saved it. */
            author: string;
            /**
             * Format: date-time
             * @description When.
             */
            at: string;
            /** @description What the author said about it. */
            note: string;
            /** @description What it changed against the revision before, seen with the files of now. */
            changes: components["schemas"]["Change"][];
            /** @description What it saved on top of the files: a JSON Merge Patch (RFC 7396). */
            saved: unknown;
        };
    };
    responses: {
        /** @description `conflict`: The state changed meanwhile, or does not allow the action. */
        AnthropicConflict: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /** @description `forbidden`: The caller lacks the scope. */
        AnthropicForbidden: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /** @description `internal`: The host failed. */
        AnthropicInternal: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /** @description `invalid_request`: The request is not valid: its syntax, a parameter, or a combination of them. */
        AnthropicInvalidRequest: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /** @description `misdirected_request`: The request was sent to a server that does not answer for that host name. */
        AnthropicMisdirectedRequest: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /**
         * @description `not_found`: What was named does not exist.
         *
         *     `model_not_found`: No plugin offers the model, or the caller may not use it.
         */
        AnthropicNotFoundOrModelNotFound: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /** @description `payload_too_large`: The body, frame or answer is larger than the limit. */
        AnthropicPayloadTooLarge: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /**
         * @description `plugin_error`: The plugin failed, or its answer broke the protocol.
         *
         *     `plugin_disconnected`: The plugin's session ended before it answered.
         */
        AnthropicPluginErrorOrPluginDisconnected: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /**
         * @description `plugin_unavailable`: No ready instance serves the capability.
         *
         *     `overloaded`: The queue is full, or waiting in it took too long.
         */
        AnthropicPluginUnavailableOrOverloaded: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "retry-after": components["headers"]["RetryAfter"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /**
         * @description `rate_limited`: Too many requests in too short a time.
         *
         *     `quota_exceeded`: The budget of the key or user is used up.
         */
        AnthropicRateLimitedOrQuotaExceeded: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "retry-after": components["headers"]["RetryAfter"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /** @description `timeout`: The deadline passed before the answer came. */
        AnthropicTimeout: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /** @description `unauthorized`: The credential is missing, unknown, expired or revoked. */
        AnthropicUnauthorized: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "www-authenticate": components["headers"]["WwwAuthenticate"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /** @description `unsupported_media_type`: The body's content type is not one that the route reads. */
        AnthropicUnsupportedMediaType: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["AnthropicErrorBody"];
            };
        };
        /** @description `conflict`: The state changed meanwhile, or does not allow the action. */
        Conflict: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `forbidden`: The caller lacks the scope. */
        Forbidden: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /**
         * @description `forbidden`: The caller lacks the scope.
         *
         *     `reauth_required`: The action needs a login session younger than five minutes.
         */
        ForbiddenOrReauthRequired: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `insufficient_storage`: There is no room on the disk for the write. */
        InsufficientStorage: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `internal`: The host failed. */
        Internal: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `invalid_config`: The configuration breaks its schema. */
        InvalidConfig: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `invalid_request`: The request is not valid: its syntax, a parameter, or a combination of them. */
        InvalidRequest: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `misdirected_request`: The request was sent to a server that does not answer for that host name. */
        MisdirectedRequest: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `not_found`: What was named does not exist. */
        NotFound: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /**
         * @description `not_found`: What was named does not exist.
         *
         *     `model_not_found`: No plugin offers the model, or the caller may not use it.
         */
        NotFoundOrModelNotFound: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `conflict`: The state changed meanwhile, or does not allow the action. */
        OpenAiConflict: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `forbidden`: The caller lacks the scope. */
        OpenAiForbidden: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `internal`: The host failed. */
        OpenAiInternal: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `invalid_api_key`: The credential is missing, unknown, expired or revoked. */
        OpenAiInvalidApiKey: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "www-authenticate": components["headers"]["WwwAuthenticate"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `invalid_request`: The request is not valid: its syntax, a parameter, or a combination of them. */
        OpenAiInvalidRequest: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `misdirected_request`: The request was sent to a server that does not answer for that host name. */
        OpenAiMisdirectedRequest: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `model_not_found`: No plugin offers the model, or the caller may not use it. */
        OpenAiModelNotFound: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /**
         * @description `not_found`: What was named does not exist.
         *
         *     `model_not_found`: No plugin offers the model, or the caller may not use it.
         */
        OpenAiNotFoundOrModelNotFound: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `payload_too_large`: The body, frame or answer is larger than the limit. */
        OpenAiPayloadTooLarge: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /**
         * @description `plugin_error`: The plugin failed, or its answer broke the protocol.
         *
         *     `plugin_disconnected`: The plugin's session ended before it answered.
         */
        OpenAiPluginErrorOrPluginDisconnected: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `plugin_unavailable`: No ready instance serves the capability. */
        OpenAiPluginUnavailable: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "retry-after": components["headers"]["RetryAfter"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /**
         * @description `plugin_unavailable`: No ready instance serves the capability.
         *
         *     `overloaded`: The queue is full, or waiting in it took too long.
         */
        OpenAiPluginUnavailableOrOverloaded: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "retry-after": components["headers"]["RetryAfter"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /**
         * @description `rate_limit_exceeded`: Too many requests in too short a time.
         *
         *     `insufficient_quota`: The budget of the key or user is used up.
         */
        OpenAiRateLimitExceededOrInsufficientQuota: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "retry-after": components["headers"]["RetryAfter"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `timeout`: The deadline passed before the answer came. */
        OpenAiTimeout: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `unsupported_media_type`: The body's content type is not one that the route reads. */
        OpenAiUnsupportedMediaType: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["OpenAiErrorBody"];
            };
        };
        /** @description `payload_too_large`: The body, frame or answer is larger than the limit. */
        PayloadTooLarge: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `plugin_error`: The plugin failed, or its answer broke the protocol. */
        PluginError: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /**
         * @description `plugin_error`: The plugin failed, or its answer broke the protocol.
         *
         *     `plugin_disconnected`: The plugin's session ended before it answered.
         */
        PluginErrorOrPluginDisconnected: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `plugin_unavailable`: No ready instance serves the capability. */
        PluginUnavailable: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "retry-after": components["headers"]["RetryAfter"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /**
         * @description `plugin_unavailable`: No ready instance serves the capability.
         *
         *     `overloaded`: The queue is full, or waiting in it took too long.
         */
        PluginUnavailableOrOverloaded: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "retry-after": components["headers"]["RetryAfter"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `rate_limited`: Too many requests in too short a time. */
        RateLimited: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "retry-after": components["headers"]["RetryAfter"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /**
         * @description `rate_limited`: Too many requests in too short a time.
         *
         *     `quota_exceeded`: The budget of the key or user is used up.
         */
        RateLimitedOrQuotaExceeded: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "retry-after": components["headers"]["RetryAfter"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `timeout`: The deadline passed before the answer came. */
        Timeout: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `unauthorized`: The credential is missing, unknown, expired or revoked. */
        Unauthorized: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                "www-authenticate": components["headers"]["WwwAuthenticate"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
        /** @description `unsupported_media_type`: The body's content type is not one that the route reads. */
        UnsupportedMediaType: {
            headers: {
                "x-request-id": components["headers"]["RequestId"];
                "x-bkg-error-source": components["headers"]["ErrorSource"];
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["ErrorBody"];
            };
        };
    };
    parameters: never;
    requestBodies: never;
    headers: {
        /** @description The id of the request, a UUID, which the logs of host and plugins name. */
        RequestId: string;
        /** @description Who failed. The request's own faults count as the host's. */
        ErrorSource: "host" | "plugin";
        /** @description After how many seconds to try again. */
        RetryAfter: number;
        /** @description `Bearer`. */
        WwwAuthenticate: string;
    };
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    postV1Responses: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ResponseRequest"];
            };
        };
        responses: {
            /**
             * @description The response.
             *
             *     With `stream`, its events.
             */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelResponse"];
                    "text/event-stream": components["schemas"]["ResponseEvent"];
                };
            };
            400: components["responses"]["OpenAiInvalidRequest"];
            401: components["responses"]["OpenAiInvalidApiKey"];
            403: components["responses"]["OpenAiForbidden"];
            404: components["responses"]["OpenAiNotFoundOrModelNotFound"];
            409: components["responses"]["OpenAiConflict"];
            413: components["responses"]["OpenAiPayloadTooLarge"];
            415: components["responses"]["OpenAiUnsupportedMediaType"];
            421: components["responses"]["OpenAiMisdirectedRequest"];
            429: components["responses"]["OpenAiRateLimitExceededOrInsufficientQuota"];
            500: components["responses"]["OpenAiInternal"];
            502: components["responses"]["OpenAiPluginErrorOrPluginDisconnected"];
            503: components["responses"]["OpenAiPluginUnavailableOrOverloaded"];
            504: components["responses"]["OpenAiTimeout"];
        };
    };
    postV1Messages: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["MessageRequest"];
            };
        };
        responses: {
            /**
             * @description The message.
             *
             *     With `stream`, its events.
             */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ModelMessage"];
                    "text/event-stream": components["schemas"]["MessageEvent"];
                };
            };
            400: components["responses"]["AnthropicInvalidRequest"];
            401: components["responses"]["AnthropicUnauthorized"];
            403: components["responses"]["AnthropicForbidden"];
            404: components["responses"]["AnthropicNotFoundOrModelNotFound"];
            409: components["responses"]["AnthropicConflict"];
            413: components["responses"]["AnthropicPayloadTooLarge"];
            415: components["responses"]["AnthropicUnsupportedMediaType"];
            421: components["responses"]["AnthropicMisdirectedRequest"];
            429: components["responses"]["AnthropicRateLimitedOrQuotaExceeded"];
            500: components["responses"]["AnthropicInternal"];
            502: components["responses"]["AnthropicPluginErrorOrPluginDisconnected"];
            503: components["responses"]["AnthropicPluginUnavailableOrOverloaded"];
            504: components["responses"]["AnthropicTimeout"];
        };
    };
    postV1MessagesCountTokens: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CountRequest"];
            };
        };
        responses: {
            /** @description The estimate. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TokenCount"];
                };
            };
            400: components["responses"]["AnthropicInvalidRequest"];
            401: components["responses"]["AnthropicUnauthorized"];
            403: components["responses"]["AnthropicForbidden"];
            409: components["responses"]["AnthropicConflict"];
            413: components["responses"]["AnthropicPayloadTooLarge"];
            415: components["responses"]["AnthropicUnsupportedMediaType"];
            421: components["responses"]["AnthropicMisdirectedRequest"];
            429: components["responses"]["AnthropicRateLimitedOrQuotaExceeded"];
            500: components["responses"]["AnthropicInternal"];
            503: components["responses"]["AnthropicPluginUnavailableOrOverloaded"];
            504: components["responses"]["AnthropicTimeout"];
        };
    };
    postV1ChatCompletions: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ChatRequest"];
            };
        };
        responses: {
            /**
             * @description The completion.
             *
             *     With `stream`, its chunks, and `[DONE]` at a successful end.
             */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Completion"];
                    "text/event-stream": components["schemas"]["Completion"];
                };
            };
            400: components["responses"]["OpenAiInvalidRequest"];
            401: components["responses"]["OpenAiInvalidApiKey"];
            403: components["responses"]["OpenAiForbidden"];
            404: components["responses"]["OpenAiNotFoundOrModelNotFound"];
            409: components["responses"]["OpenAiConflict"];
            413: components["responses"]["OpenAiPayloadTooLarge"];
            415: components["responses"]["OpenAiUnsupportedMediaType"];
            421: components["responses"]["OpenAiMisdirectedRequest"];
            429: components["responses"]["OpenAiRateLimitExceededOrInsufficientQuota"];
            500: components["responses"]["OpenAiInternal"];
            502: components["responses"]["OpenAiPluginErrorOrPluginDisconnected"];
            503: components["responses"]["OpenAiPluginUnavailableOrOverloaded"];
            504: components["responses"]["OpenAiTimeout"];
        };
    };
    postV1Completions: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CompletionRequest"];
            };
        };
        responses: {
            /**
             * @description The completion.
             *
             *     With `stream`, its chunks, and `[DONE]` at a successful end.
             */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Completion"];
                    "text/event-stream": components["schemas"]["Completion"];
                };
            };
            400: components["responses"]["OpenAiInvalidRequest"];
            401: components["responses"]["OpenAiInvalidApiKey"];
            403: components["responses"]["OpenAiForbidden"];
            404: components["responses"]["OpenAiNotFoundOrModelNotFound"];
            409: components["responses"]["OpenAiConflict"];
            413: components["responses"]["OpenAiPayloadTooLarge"];
            415: components["responses"]["OpenAiUnsupportedMediaType"];
            421: components["responses"]["OpenAiMisdirectedRequest"];
            429: components["responses"]["OpenAiRateLimitExceededOrInsufficientQuota"];
            500: components["responses"]["OpenAiInternal"];
            502: components["responses"]["OpenAiPluginErrorOrPluginDisconnected"];
            503: components["responses"]["OpenAiPluginUnavailableOrOverloaded"];
            504: components["responses"]["OpenAiTimeout"];
        };
    };
    postV1Embeddings: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["EmbeddingRequest"];
            };
        };
        responses: {
            /** @description The embeddings. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Embeddings"];
                };
            };
            400: components["responses"]["OpenAiInvalidRequest"];
            401: components["responses"]["OpenAiInvalidApiKey"];
            403: components["responses"]["OpenAiForbidden"];
            404: components["responses"]["OpenAiNotFoundOrModelNotFound"];
            409: components["responses"]["OpenAiConflict"];
            413: components["responses"]["OpenAiPayloadTooLarge"];
            415: components["responses"]["OpenAiUnsupportedMediaType"];
            421: components["responses"]["OpenAiMisdirectedRequest"];
            429: components["responses"]["OpenAiRateLimitExceededOrInsufficientQuota"];
            500: components["responses"]["OpenAiInternal"];
            502: components["responses"]["OpenAiPluginErrorOrPluginDisconnected"];
            503: components["responses"]["OpenAiPluginUnavailableOrOverloaded"];
            504: components["responses"]["OpenAiTimeout"];
        };
    };
    getV1Models: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The models that the caller may use and that a plugin serves now. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ServedModels"];
                };
            };
            401: components["responses"]["OpenAiInvalidApiKey"];
            403: components["responses"]["OpenAiForbidden"];
            421: components["responses"]["OpenAiMisdirectedRequest"];
            429: components["responses"]["OpenAiRateLimitExceededOrInsufficientQuota"];
            500: components["responses"]["OpenAiInternal"];
            503: components["responses"]["OpenAiPluginUnavailable"];
        };
    };
    getV1ModelsId: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The model's id, which may contain slashes, encoded or not. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The model. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ServedModel"];
                };
            };
            400: components["responses"]["OpenAiInvalidRequest"];
            401: components["responses"]["OpenAiInvalidApiKey"];
            403: components["responses"]["OpenAiForbidden"];
            404: components["responses"]["OpenAiModelNotFound"];
            421: components["responses"]["OpenAiMisdirectedRequest"];
            429: components["responses"]["OpenAiRateLimitExceededOrInsufficientQuota"];
            500: components["responses"]["OpenAiInternal"];
            503: components["responses"]["OpenAiPluginUnavailable"];
        };
    };
    getApiPlugins: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The plugins. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CataloguePlugin"][];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getApiPluginsTelemetry: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The newest sample of each launch. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AllTelemetry"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    postApiPluginsExecute: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Execution"];
            };
        };
        responses: {
            /** @description What the plugin answered. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Executed"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFoundOrModelNotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginErrorOrPluginDisconnected"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
        };
    };
    getApiPluginsName: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The plugin. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CataloguePlugin"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getApiPluginsNameStatus: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Its status. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Standing"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getApiPluginsNameCapabilities: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The capabilities. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Capabilities"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    postApiPluginsNameInvoke: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Invocation"];
            };
        };
        responses: {
            /** @description What the plugin answered. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["InvocationOutcome"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFoundOrModelNotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginErrorOrPluginDisconnected"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
        };
    };
    getApiPluginsRoutes: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Those that the caller may use, with their whole paths. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LiveRoute"][];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsNameRuns: {
        parameters: {
            query?: {
                /** @description How many; 20 unless said. */
                limit?: number;
            };
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The runs, newest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PluginRuns"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsNameRunsId: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
                /** @description The run's id: what logs call `instance`. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The run. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PluginRun"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsNameEvents: {
        parameters: {
            query?: {
                /** @description How many; 100 unless said. */
                limit?: number;
                /** @description Only what happened to the run of this id. */
                run?: string;
            };
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The changes of its state, newest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PluginEvents"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPlugins: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The plugins. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"][];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsName: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The plugin. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsNameRoutes: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Its routes. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OwnRoutes"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    postAdminPluginsNameStart: {
        parameters: {
            query?: {
                /** @description How many seconds to wait for it; without it, not at all. */
                wait?: number;
            };
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It came to its end while `wait` lasted. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            /** @description It is under way. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminPluginsNameStop: {
        parameters: {
            query?: {
                /** @description How many seconds to wait for it; without it, not at all. */
                wait?: number;
            };
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It came to its end while `wait` lasted. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            /** @description It is under way. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminPluginsNameRestart: {
        parameters: {
            query?: {
                /** @description How many seconds to wait for it; without it, not at all. */
                wait?: number;
            };
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It came to its end while `wait` lasted. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            /** @description It is under way. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminPluginsNameSwap: {
        parameters: {
            query?: {
                /** @description How many seconds to wait for it; without it, not at all. */
                wait?: number;
                /** @description How many of 100 requests the new version is tried with. */
                share?: number;
                /** @description For how many seconds it is tried. */
                observe?: number;
            };
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It came to its end while `wait` lasted. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            /** @description It is under way. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAdminPluginsNameTelemetry: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The last half hour, oldest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PluginTelemetry"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getApiPluginsNameTelemetry: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The last half hour, oldest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PluginTelemetry"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminRouting: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The routes; their `ETag` is the revision, for `If-Match`. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RoutingTable"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    putAdminRouting: {
        parameters: {
            query?: never;
            header?: {
                /** @description The revision that the change was made for, as in `ETag`; `*` for any. */
                "if-match"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RoutingDocument"];
            };
        };
        responses: {
            /** @description They are saved and hold. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RoutingTable"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            422: components["responses"]["InvalidConfig"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAdminRoutingDecision: {
        parameters: {
            query: {
                /** @description The name that the request would have. */
                model: string;
                /** @description What it would ask for; what the name is for unless said. */
                capability?: components["schemas"]["RoutedCapability"];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Who would be asked in which order, and why others would not. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RoutingDecision"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsNameConfig: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The entry; its `ETag` is the revision, for `If-Match`. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EntryView"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    putAdminPluginsNameConfig: {
        parameters: {
            query?: {
                /** @description When it takes effect; `now` unless said. */
                apply?: components["schemas"]["Moment"];
                /** @description Only say what would become of it, having asked the plugin where it can be asked. */
                dryRun?: boolean;
                /** @description What the author says about it, in at most 500 characters. */
                note?: string;
            };
            header?: {
                /** @description The revision that the change was made for, as in `ETag`; `*` for any. */
                "if-match"?: string;
            };
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    [key: string]: unknown;
                };
            };
        };
        responses: {
            /** @description It is saved and, where the plugin runs, in force. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConfigOutcome"];
                };
            };
            /** @description It is saved, and takes effect at the next start. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConfigOutcome"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["ForbiddenOrReauthRequired"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            422: components["responses"]["InvalidConfig"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailable"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminPluginsNameConfig: {
        parameters: {
            query?: {
                /** @description When it takes effect; `now` unless said. */
                apply?: components["schemas"]["Moment"];
                /** @description Only say what would become of it, having asked the plugin where it can be asked. */
                dryRun?: boolean;
                /** @description What the author says about it, in at most 500 characters. */
                note?: string;
            };
            header?: {
                /** @description The revision that the change was made for, as in `ETag`; `*` for any. */
                "if-match"?: string;
            };
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    [key: string]: unknown;
                };
            };
        };
        responses: {
            /** @description It is saved and, where the plugin runs, in force. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConfigOutcome"];
                };
            };
            /** @description It is saved, and takes effect at the next start. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConfigOutcome"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["ForbiddenOrReauthRequired"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            422: components["responses"]["InvalidConfig"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailable"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminPluginsNameConfigReset: {
        parameters: {
            query?: {
                /** @description When it takes effect; `now` unless said. */
                apply?: components["schemas"]["Moment"];
                /** @description Only say what would become of it, having asked the plugin where it can be asked. */
                dryRun?: boolean;
                /** @description What the author says about it, in at most 500 characters. */
                note?: string;
            };
            header?: {
                /** @description The revision that the change was made for, as in `ETag`; `*` for any. */
                "if-match"?: string;
            };
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["EntryReset"];
            };
        };
        responses: {
            /** @description It is saved and, where the plugin runs, in force. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConfigOutcome"];
                };
            };
            /** @description It is saved, and takes effect at the next start. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConfigOutcome"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["ForbiddenOrReauthRequired"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            422: components["responses"]["InvalidConfig"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailable"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminPluginsNameConfigReturn: {
        parameters: {
            query?: {
                /** @description When it takes effect; `now` unless said. */
                apply?: components["schemas"]["Moment"];
                /** @description Only say what would become of it, having asked the plugin where it can be asked. */
                dryRun?: boolean;
                /** @description What the author says about it, in at most 500 characters. */
                note?: string;
            };
            header?: {
                /** @description The revision that the change was made for, as in `ETag`; `*` for any. */
                "if-match"?: string;
            };
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["EntryReturn"];
            };
        };
        responses: {
            /** @description It is saved and, where the plugin runs, in force. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConfigOutcome"];
                };
            };
            /** @description It is saved, and takes effect at the next start. */
            202: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConfigOutcome"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["ForbiddenOrReauthRequired"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            422: components["responses"]["InvalidConfig"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailable"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAdminPluginsNameConfigDiff: {
        parameters: {
            query?: {
                /** @description The first; the one before `to` unless said, 0 for the files alone. */
                from?: number;
                /** @description The second; the newest unless said. */
                to?: number;
            };
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What differs. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Comparison"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsNameConfigRevisions: {
        parameters: {
            query?: {
                /** @description Only those before the one with this number. */
                before?: number;
                /** @description How many, at most 100; 20 unless said. */
                limit?: number;
            };
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The revisions, newest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RevisionView"][];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsNameConfigRevisionsRevision: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
                /** @description Its number. */
                revision: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The revision. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WholeRevision"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminMirror: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What is there, and what an import would change. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MirrorView"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    postAdminMirrorImport: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What became of each plugin. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MirrorImport"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["ForbiddenOrReauthRequired"];
            421: components["responses"]["MisdirectedRequest"];
            422: components["responses"]["InvalidConfig"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminMirrorDiscard: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Where it is now. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MirrorDiscard"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsNameLogs: {
        parameters: {
            query?: {
                /** @description How many of the last lines; 200 unless said. */
                tail?: number | "";
                /** @description The lines after the one with this number, instead of the last ones. */
                since?: number | "";
                /** @description The lines before the one with this number. */
                before?: number | "";
                /** @description The least level. */
                level?: components["schemas"]["LogLevel"] | "";
                /** @description How the lines came. */
                stream?: components["schemas"]["LogStream"] | "";
                /** @description What the message must hold, in upper or lower case. */
                text?: string | "";
                /** @description What the message must match: the syntax of the Rust crate `regex`. */
                regex?: string | "";
                /** @description Only lines of this launch: the `instance` of a line. */
                run?: string | "";
                /** @description Only lines of this time or later. */
                from?: string | "";
                /** @description Only lines of this time or earlier. */
                to?: string | "";
            };
            header?: {
                /** @description The number of the last line that a stream had brought: as `since`. */
                "last-event-id"?: string;
            };
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /**
             * @description The lines, oldest first.
             *
             *     The lines, and those that come.
             */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LogPage"];
                    "text/event-stream": components["schemas"]["LogLine"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getApiPluginsNameLogs: {
        parameters: {
            query?: {
                /** @description How many of the last lines; 200 unless said. */
                tail?: number | "";
                /** @description The lines after the one with this number, instead of the last ones. */
                since?: number | "";
                /** @description The lines before the one with this number. */
                before?: number | "";
                /** @description The least level. */
                level?: components["schemas"]["LogLevel"] | "";
                /** @description How the lines came. */
                stream?: components["schemas"]["LogStream"] | "";
                /** @description What the message must hold, in upper or lower case. */
                text?: string | "";
                /** @description What the message must match: the syntax of the Rust crate `regex`. */
                regex?: string | "";
                /** @description Only lines of this launch: the `instance` of a line. */
                run?: string | "";
                /** @description Only lines of this time or later. */
                from?: string | "";
                /** @description Only lines of this time or earlier. */
                to?: string | "";
            };
            header?: {
                /** @description The number of the last line that a stream had brought: as `since`. */
                "last-event-id"?: string;
            };
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /**
             * @description The lines, oldest first.
             *
             *     The lines, and those that come.
             */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LogPage"];
                    "text/event-stream": components["schemas"]["LogLine"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminPluginsNameLogsDownload: {
        parameters: {
            query?: {
                /** @description How lines are written; `text` unless said. */
                format?: components["schemas"]["LogFormat"];
                /** @description Only lines after the one with this number. */
                since?: number | "";
                /** @description The least level. */
                level?: components["schemas"]["LogLevel"] | "";
                /** @description How the lines came. */
                stream?: components["schemas"]["LogStream"] | "";
                /** @description What the message must hold, in upper or lower case. */
                text?: string | "";
                /** @description What the message must match: the syntax of the Rust crate `regex`. */
                regex?: string | "";
                /** @description Only lines of this launch: the `instance` of a line. */
                run?: string | "";
                /** @description Only lines of this time or later. */
                from?: string | "";
                /** @description Only lines of this time or earlier. */
                to?: string | "";
            };
            header?: never;
            path: {
                /** @description The plugin's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /**
             * @description The lines that the filters take, one each.
             *
             *     The same as one JSON object each.
             */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                    "application/x-ndjson": string;
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminLogs: {
        parameters: {
            query?: {
                /** @description Only the log of this plugin; may be there several times. */
                plugin?: string;
                /** @description How many of the last lines; 200 unless said. */
                tail?: number | "";
                /** @description The lines after this place. */
                since?: string | "";
                /** @description The lines before this place. */
                before?: string | "";
                /** @description The least level. */
                level?: components["schemas"]["LogLevel"] | "";
                /** @description How the lines came. */
                stream?: components["schemas"]["LogStream"] | "";
                /** @description What the message must hold, in upper or lower case. */
                text?: string | "";
                /** @description What the message must match: the syntax of the Rust crate `regex`. */
                regex?: string | "";
                /** @description Only lines of this launch: the `instance` of a line. */
                run?: string | "";
                /** @description Only lines of this time or later. */
                from?: string | "";
                /** @description Only lines of this time or earlier. */
                to?: string | "";
            };
            header?: {
                /** @description The place that a stream had reached: as `since`. */
                "last-event-id"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /**
             * @description The lines, oldest first.
             *
             *     The lines, and those that come.
             */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MergedPage"];
                    "text/event-stream": components["schemas"]["LogLine"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getWs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The socket is open. */
            101: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            /** @description The request does not ask for a WebSocket. */
            426: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErrorBody"];
                };
            };
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getWsPlugins: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The socket is open. */
            101: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            /** @description The request does not ask for a WebSocket. */
            426: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErrorBody"];
                };
            };
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    postAuthTicket: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It opens one socket, within half a minute. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Ticket"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    postAuthLogin: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Credentials"];
            };
        };
        responses: {
            /** @description A login. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    /** @description `bkg_session` and `bkg_refresh`. */
                    "set-cookie"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Login"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAuthRefresh: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Refresh"];
            };
        };
        responses: {
            /** @description The login with new tokens. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    /** @description `bkg_session` and `bkg_refresh`. */
                    "set-cookie"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Login"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimited"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAuthLogout: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The login has ended. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    /** @description Both cookies, empty. */
                    "set-cookie"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAuthMe: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The caller. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Me"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    patchAuthMe: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["OwnName"];
            };
        };
        responses: {
            /** @description The user. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["User"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAuthPassword: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["OwnPassword"];
            };
        };
        responses: {
            /** @description It is changed. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAuthSessions: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The logins. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Sessions"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    deleteAuthSessionsId: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The login's id. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It has ended. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAdminKeys: {
        parameters: {
            query?: {
                /** @description Only this user's: a name or an id. */
                user?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The keys, without their secrets. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Keys"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminKeys: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewKey"];
            };
        };
        responses: {
            /** @description The key, with its secret, which is shown this once. */
            201: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MadeKey"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    deleteAdminKeysId: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The key's id. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The key, which opens nothing any more. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Key"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminKeysIdRotate: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The key's id. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Rotation"];
            };
        };
        responses: {
            /** @description The key, with its new secret, which is shown this once. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MadeKey"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAdminUsers: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The users. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Users"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminUsers: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewUser"];
            };
        };
        responses: {
            /** @description The user, with the password if one was made. */
            201: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UserWithPassword"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    deleteAdminUsersId: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The user's id or name. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is gone. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    patchAdminUsersId: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The user's id or name. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["UserChange"];
            };
        };
        responses: {
            /** @description The user. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["User"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminUsersIdPassword: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The user's id or name. */
                id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewPassword"];
            };
        };
        responses: {
            /** @description The user. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["User"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminUsersIdReset: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The user's name. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["UserReset"];
            };
        };
        responses: {
            /** @description The user, with the password if one was made. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UserWithPassword"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAdminRoles: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The roles. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Roles"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    putAdminRolesName: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The role's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RoleScopes"];
            };
        };
        responses: {
            /** @description The role. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Role"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            413: components["responses"]["PayloadTooLarge"];
            415: components["responses"]["UnsupportedMediaType"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            504: components["responses"]["Timeout"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    deleteAdminRolesName: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The role's name. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is gone. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAdminSessions: {
        parameters: {
            query?: {
                /** @description Only this user's: a name or an id. */
                user?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The logins. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Sessions"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    deleteAdminSessionsId: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The login's id. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It has ended. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailableOrOverloaded"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getAdminRequests: {
        parameters: {
            query?: {
                /** @description How many; 100 unless said. */
                limit?: number;
                /** @description Only those before the one with this number. */
                before?: number;
                /** @description Only the request with this `x-request-id`. */
                id?: string;
                /** @description Only requests with the API key of this id. */
                key?: string;
                /** @description Only requests of this user. */
                user?: string;
                /** @description Only requests that named this model. */
                model?: string;
                /** @description Only requests that this plugin answered. */
                plugin?: string;
                /** @description Only requests that ended so: `ok`, or the code of an error. */
                outcome?: string;
                /** @description Only requests that began at this time or later. */
                since?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The requests, newest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RequestRecords"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminRequestsId: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Its `x-request-id`. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The request. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["InspectedRequest"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            404: components["responses"]["NotFound"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminUsage: {
        parameters: {
            query?: {
                /** @description What is summed up; `day` unless said. */
                by?: components["schemas"]["UsageGroup"];
                /** @description From the hour of this time on; thirty days ago unless said. */
                from?: string;
                /** @description Up to the end of the hour before this time; now unless said. */
                to?: string;
                /** @description How many groups; 100 unless said. */
                limit?: number;
                /** @description How many groups are left out before the first. */
                offset?: number;
                /** @description Only requests of this user. */
                user?: string;
                /** @description Only requests with the API key of this id. */
                key?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The sums. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UsageAnswer"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getApiUsage: {
        parameters: {
            query?: {
                /** @description What is summed up; `day` unless said. */
                by?: components["schemas"]["UsageGroup"];
                /** @description From the hour of this time on; thirty days ago unless said. */
                from?: string;
                /** @description Up to the end of the hour before this time; now unless said. */
                to?: string;
                /** @description How many groups; 100 unless said. */
                limit?: number;
                /** @description How many groups are left out before the first. */
                offset?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The sums. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UsageAnswer"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminAudit: {
        parameters: {
            query?: {
                /** @description How many; 100 unless said. */
                limit?: number;
                /** @description Only those before the one with this number. */
                before?: number;
                /** @description Only actions that begin so, such as `key.`. */
                action?: string;
                /** @description Only what this user did. */
                actor?: string;
                /** @description Only what was written at this time or later. */
                since?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The entries, newest first. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditEntries"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getMetrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Every metric of docs/observability.md. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminBackupPreview: {
        parameters: {
            query?: {
                /** @description Whether it holds the keys too; not unless said. */
                keys?: boolean;
                /** @description Whether it holds the logs of plugins too; not unless said. */
                logs?: boolean;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What it would hold, how that is taken, and what would be missing. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BackupPreview"];
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    postAdminBackup: {
        parameters: {
            query?: {
                /** @description Whether it holds the keys too; not unless said. */
                keys?: boolean;
                /** @description Whether it holds the logs of plugins too; not unless said. */
                logs?: boolean;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The archive. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/x-tar": string;
                };
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["ForbiddenOrReauthRequired"];
            409: components["responses"]["Conflict"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            502: components["responses"]["PluginError"];
            503: components["responses"]["PluginUnavailable"];
            507: components["responses"]["InsufficientStorage"];
        };
    };
    getHealth: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The host answers. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
            421: components["responses"]["MisdirectedRequest"];
            500: components["responses"]["Internal"];
        };
    };
    getHealthReady: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It does. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
            421: components["responses"]["MisdirectedRequest"];
            500: components["responses"]["Internal"];
            /** @description Not yet: ask again. */
            503: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
        };
    };
    getAdminPorts: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Every listener of the host and of its plugins. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Ports"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getAdminSystem: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Its version, figures and configuration. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["System"];
                };
            };
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getOpenapiJson: {
        parameters: {
            query?: never;
            header?: {
                /** @description The `etag` of a document that one has. */
                "if-none-match"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The document. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    /** @description What stays the same while the document does. */
                    etag?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        [key: string]: unknown;
                    };
                };
            };
            /** @description It is the one that `if-none-match` names. */
            304: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["InvalidRequest"];
            401: components["responses"]["Unauthorized"];
            403: components["responses"]["Forbidden"];
            421: components["responses"]["MisdirectedRequest"];
            429: components["responses"]["RateLimitedOrQuotaExceeded"];
            500: components["responses"]["Internal"];
            503: components["responses"]["PluginUnavailable"];
        };
    };
    getDocs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The page. */
            200: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description `unauthorized`: The credential is missing, unknown, expired or revoked. */
            401: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    "x-bkg-error-source": components["headers"]["ErrorSource"];
                    "www-authenticate": components["headers"]["WwwAuthenticate"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErrorBody"];
                    "text/html": string;
                };
            };
            /** @description `forbidden`: The caller lacks the scope. */
            403: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    "x-bkg-error-source": components["headers"]["ErrorSource"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErrorBody"];
                    "text/html": string;
                };
            };
            /** @description `misdirected_request`: The request was sent to a server that does not answer for that host name. */
            421: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    "x-bkg-error-source": components["headers"]["ErrorSource"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErrorBody"];
                    "text/html": string;
                };
            };
            /**
             * @description `rate_limited`: Too many requests in too short a time.
             *
             *     `quota_exceeded`: The budget of the key or user is used up.
             */
            429: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    "x-bkg-error-source": components["headers"]["ErrorSource"];
                    "retry-after": components["headers"]["RetryAfter"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErrorBody"];
                    "text/html": string;
                };
            };
            /** @description `internal`: The host failed. */
            500: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    "x-bkg-error-source": components["headers"]["ErrorSource"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErrorBody"];
                    "text/html": string;
                };
            };
            /** @description `plugin_unavailable`: No ready instance serves the capability. */
            503: {
                headers: {
                    "x-request-id": components["headers"]["RequestId"];
                    "x-bkg-error-source": components["headers"]["ErrorSource"];
                    "retry-after": components["headers"]["RetryAfter"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErrorBody"];
                    "text/html": string;
                };
            };
        };
    };
}
